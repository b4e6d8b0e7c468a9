// What TensorRT plugins are made of here, in every version of TensorRT. The plugins themselves are
// Traits, of which plugin_v2.h or plugin_v3.h makes a plugin and its creator.
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
    NV_TENSORRT_MAJOR > 11
#error "the plugin needs the headers of TensorRT 8.6 to 11"
#endif

namespace samtrt_plugin {

using nvinfer1::DataType;
using nvinfer1::DimsExprs;
using nvinfer1::PluginField;
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

// Traits gives
//   kName, kInputs, kOutputs, kKinds (of the inputs, then of the outputs)
//   Attributes: a plain struct, which is the plugin's whole state and what an engine file keeps
//   kFields, set(Attributes&, PluginField const&), valid(Attributes const&)
//   output(Attributes const&, inputs' dimensions, builder): dimensions of every output
//   supported(Attributes const&, first input): sizes that vary are -1
//   workspace(inputs): bytes, of the largest inputs
//   run(Attributes const&, input descriptions, inputs, outputs, workspace, stream)

template <typename Traits>
bool has_kernels(typename Traits::Attributes const& attributes,
                 PluginTensorDesc const& desc) noexcept {
  if (Traits::supported(attributes, desc)) {
    return true;
  }
  std::string text = std::string(Traits::kName) + " has no kernels for ";
  for (int32_t i = 0; i < desc.dims.nbDims; ++i) {
    text += (i > 0 ? " x " : "") + std::to_string(size_of(desc, i));
  }
  log_error(text.c_str());
  return false;
}

// Tells whether an input or output, of which `first` is the first input, may be as it is.
template <typename Traits>
bool is_supported(typename Traits::Attributes const& attributes, int32_t pos,
                  PluginTensorDesc const& desc, PluginTensorDesc const& first) noexcept {
  Kind const kind = Traits::kKinds[pos];
  if (kind == Kind::kFloats) {
    return desc.type == DataType::kFLOAT && desc.format == TensorFormat::kLINEAR;
  }
  TensorFormat const format = kind == Kind::kGrid ? TensorFormat::kHWC8 : TensorFormat::kLINEAR;
  if (desc.format != format || !is_half(desc.type)) {
    return false;
  }
  return pos == 0 ? has_kernels<Traits>(attributes, desc) : desc.type == first.type;
}

// The type of an output whose plugin's first input has the type `first`.
template <typename Traits>
DataType output_type(int32_t index, DataType first) noexcept {
  return Traits::kKinds[Traits::kInputs + index] == Kind::kFloats ? DataType::kFLOAT : first;
}

template <typename Traits>
bool is_valid(typename Traits::Attributes const& attributes) noexcept {
  if (!Traits::valid(attributes)) {
    log_error((std::string(Traits::kName) + ": an attribute is missing or out of range").c_str());
    return false;
  }
  return true;
}

// Reads what a graph or an engine file says of a plugin; tells whether that is whole and in range.
template <typename Traits>
bool read_fields(nvinfer1::PluginFieldCollection const& fields,
                 typename Traits::Attributes& attributes) noexcept {
  for (int32_t i = 0; i < fields.nbFields; ++i) {
    if (fields.fields[i].name && fields.fields[i].data) {
      Traits::set(attributes, fields.fields[i]);
    }
  }
  return is_valid<Traits>(attributes);
}

template <typename Value>
void read(PluginField const& field, char const* name, PluginFieldType type, Value& value) noexcept {
  if (std::strcmp(field.name, name) == 0 && field.type == type) {
    std::memcpy(&value, field.data, sizeof value);
  }
}

}  // namespace samtrt_plugin
