// What TensorRT plugins are made of here: a plugin and its creator, each from a Traits that says
// what is particular to it. Included by the plugins' files alone.
#pragma once

#include "kernels.h"

// IPluginV2DynamicExt is deprecated in TensorRT 10, and the only interface that 8.6 has.
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#include <NvInferRuntime.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <new>
#include <string>

#if NV_TENSORRT_MAJOR < 8 || (NV_TENSORRT_MAJOR == 8 && NV_TENSORRT_MINOR < 6) || \
    NV_TENSORRT_MAJOR > 10
#error "the plugin needs the headers of TensorRT 8.6 to 10; TensorRT 11 has no IPluginV2DynamicExt"
#endif

namespace samtrt_plugin {

using nvinfer1::DataType;
using nvinfer1::DimsExprs;
using nvinfer1::IPluginCreator;
using nvinfer1::IPluginV2;
using nvinfer1::IPluginV2DynamicExt;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

// One of them is set by whoever loads the library; the finder knows the logger of the engine that
// called into this thread.
inline std::atomic<nvinfer1::ILogger*> common_logger{nullptr};
inline std::atomic<nvinfer1::ILoggerFinder*> logger_finder{nullptr};

inline void log_error(char const* text) noexcept {
  nvinfer1::ILoggerFinder* const finder = logger_finder.load();
  nvinfer1::ILogger* const logger = finder ? finder->findLogger() : common_logger.load();
  if (logger) {
    logger->log(nvinfer1::ILogger::Severity::kERROR, text);
  }
}

// Returns what enqueue returns: 0 for success.
inline int32_t checked(cudaError_t error, char const* plugin) noexcept {
  if (error != cudaSuccess) {
    char text[256];
    std::snprintf(text, sizeof text, "%s: CUDA error %d (%s)", plugin, static_cast<int>(error),
                  cudaGetErrorString(error));
    log_error(text);
  }
  return error == cudaSuccess ? 0 : 1;
}

inline bool is_half(DataType type) noexcept {
#if NV_TENSORRT_MAJOR >= 10
  return type == DataType::kHALF || type == DataType::kBF16;
#else
  return type == DataType::kHALF;
#endif
}

inline samtrt::Type half_type(DataType type) noexcept {
  return type == DataType::kHALF ? samtrt::Type::kHalf : samtrt::Type::kBfloat16;
}

// How an input or output lies in memory.
enum class Kind {
  kGrid,    // half precision, [B, C, G, G] with channels last (kHWC8)
  kRows,    // half precision, as the graph has it (kLINEAR)
  kFloats,  // float32, as the graph has it
};

inline int size_of(PluginTensorDesc const& desc, int axis) noexcept {
  return static_cast<int>(desc.dims.d[axis]);  // int64_t from TensorRT 10 on
}

// What most Traits are: one output like the first input, no workspace.
struct Plain {
  template <typename Attributes>
  static DimsExprs output(Attributes const&, DimsExprs const* inputs,
                          nvinfer1::IExprBuilder&) noexcept {
    return inputs[0];
  }

  static size_t workspace(PluginTensorDesc const*) noexcept { return 0; }
};

// Traits without attributes.
struct WithoutAttributes : Plain {
  struct Attributes {};

  static constexpr int32_t kFieldCount = 0;
  static constexpr PluginField const* kFields = nullptr;

  static void set(Attributes&, PluginField const&) noexcept {}

  static bool valid(Attributes const&) noexcept { return true; }
};

// What the plugins have in common. Traits gives
//   kName, kInputs, kOutputs, kKinds (of the inputs, then of the outputs)
//   Attributes: a plain struct, which is the plugin's whole state and what an engine file keeps
//   kFields, set(Attributes&, PluginField const&), valid(Attributes const&)
//   output(Attributes const&, inputs' dimensions, builder): dimensions of every output
//   supported(Attributes const&, first input): sizes that vary are -1
//   workspace(inputs): bytes, of the largest inputs
//   run(Attributes const&, input descriptions, inputs, outputs, workspace, stream)
template <typename Traits>
class Plugin final : public IPluginV2DynamicExt {
 public:
  using Attributes = typename Traits::Attributes;

  explicit Plugin(Attributes const& attributes) noexcept : attributes_(attributes) {}

  char const* getPluginType() const noexcept override { return Traits::kName; }

  char const* getPluginVersion() const noexcept override { return "1"; }

  int32_t getNbOutputs() const noexcept override { return Traits::kOutputs; }

  int32_t initialize() noexcept override { return 0; }

  void terminate() noexcept override {}

  size_t getSerializationSize() const noexcept override { return sizeof(Attributes); }

  void serialize(void* buffer) const noexcept override {
    std::memcpy(buffer, &attributes_, sizeof(Attributes));
  }

  void destroy() noexcept override { delete this; }

  IPluginV2DynamicExt* clone() const noexcept override { return new (std::nothrow) Plugin(*this); }

  void setPluginNamespace(char const* text) noexcept override { namespace_ = text ? text : ""; }

  char const* getPluginNamespace() const noexcept override { return namespace_.c_str(); }

  // In a weakly typed network this is float32, as the graph says; the format decides in the end.
  DataType getOutputDataType(int32_t, DataType const* types, int32_t) const noexcept override {
    return Traits::kKinds[Traits::kInputs] == Kind::kFloats ? DataType::kFLOAT : types[0];
  }

  DimsExprs getOutputDimensions(int32_t, DimsExprs const* inputs, int32_t,
                                nvinfer1::IExprBuilder& builder) noexcept override {
    return Traits::output(attributes_, inputs, builder);
  }

  bool supportsFormatCombination(int32_t pos, PluginTensorDesc const* in_out, int32_t inputs,
                                 int32_t outputs) noexcept override {
    if (inputs != Traits::kInputs || outputs != Traits::kOutputs) {
      return false;
    }
    PluginTensorDesc const& desc = in_out[pos];
    Kind const kind = Traits::kKinds[pos];
    if (kind == Kind::kFloats) {
      return desc.type == DataType::kFLOAT && desc.format == TensorFormat::kLINEAR;
    }
    TensorFormat const format = kind == Kind::kGrid ? TensorFormat::kHWC8 : TensorFormat::kLINEAR;
    if (desc.format != format || !is_half(desc.type)) {
      return false;
    }
    return pos == 0 ? has_kernels(desc) : desc.type == in_out[0].type;
  }

  void configurePlugin(nvinfer1::DynamicPluginTensorDesc const*, int32_t,
                       nvinfer1::DynamicPluginTensorDesc const*, int32_t) noexcept override {}

  size_t getWorkspaceSize(PluginTensorDesc const* in, int32_t, PluginTensorDesc const*,
                          int32_t) const noexcept override {
    return Traits::workspace(in);
  }

  int32_t enqueue(PluginTensorDesc const* in, PluginTensorDesc const*, void const* const* inputs,
                  void* const* outputs, void* workspace, cudaStream_t stream) noexcept override {
    return checked(Traits::run(attributes_, in, inputs, outputs, workspace, stream), Traits::kName);
  }

 private:
  bool has_kernels(PluginTensorDesc const& desc) const noexcept {
    if (Traits::supported(attributes_, desc)) {
      return true;
    }
    std::string text = std::string(Traits::kName) + " has no kernels for ";
    for (int32_t i = 0; i < desc.dims.nbDims; ++i) {
      text += (i > 0 ? " x " : "") + std::to_string(size_of(desc, i));
    }
    log_error(text.c_str());
    return false;
  }

  Attributes attributes_;
  std::string namespace_;
};

// Makes plugins from a graph's attributes and from an engine file.
template <typename Traits>
class Creator final : public IPluginCreator {
 public:
  using Attributes = typename Traits::Attributes;

  char const* getPluginName() const noexcept override { return Traits::kName; }

  char const* getPluginVersion() const noexcept override { return "1"; }

  PluginFieldCollection const* getFieldNames() noexcept override { return &fields_; }

  IPluginV2* createPlugin(char const*, PluginFieldCollection const* fields) noexcept override {
    Attributes attributes{};
    for (int32_t i = 0; i < fields->nbFields; ++i) {
      if (fields->fields[i].name && fields->fields[i].data) {
        Traits::set(attributes, fields->fields[i]);
      }
    }
    return make(attributes);
  }

  IPluginV2* deserializePlugin(char const*, void const* data, size_t size) noexcept override {
    Attributes attributes{};
    if (!data || size != sizeof(Attributes)) {
      return nullptr;
    }
    std::memcpy(&attributes, data, size);
    return make(attributes);
  }

  void setPluginNamespace(char const* text) noexcept override { namespace_ = text ? text : ""; }

  char const* getPluginNamespace() const noexcept override { return namespace_.c_str(); }

 private:
  IPluginV2* make(Attributes const& attributes) noexcept {
    if (!Traits::valid(attributes)) {
      log_error((std::string(Traits::kName) + ": an attribute is missing or out of range").c_str());
      return nullptr;
    }
    auto* const plugin = new (std::nothrow) Plugin<Traits>(attributes);
    if (plugin) {
      plugin->setPluginNamespace(namespace_.c_str());
    }
    return plugin;
  }

  std::string namespace_;
  PluginFieldCollection fields_{Traits::kFieldCount, Traits::kFields};
};

template <typename Value>
void read(PluginField const& field, char const* name, PluginFieldType type, Value& value) noexcept {
  if (std::strcmp(field.name, name) == 0 && field.type == type) {
    std::memcpy(&value, field.data, sizeof value);
  }
}

}  // namespace samtrt_plugin
