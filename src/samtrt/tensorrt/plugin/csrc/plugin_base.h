// What makes an operator (operator.h) a TensorRT plugin, in every version of TensorRT; plugin_v2.h
// or plugin_v3.h does the rest.
#pragma once

#include "operator.h"

// IPluginV2DynamicExt is deprecated in TensorRT 10, whose headers declare it still.
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#include <NvInferRuntime.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <new>
#include <string>

#if !(NV_TENSORRT_MAJOR == 8 && NV_TENSORRT_MINOR >= 6) && NV_TENSORRT_MAJOR != 10 && \
    NV_TENSORRT_MAJOR != 11
#error "the plugin needs the headers of TensorRT 8.6, 10 or 11"
#endif

namespace samtrt_plugin {

using nvinfer1::DataType;
using nvinfer1::DimsExprs;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;
using samtrt::Kind;

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

// Whether the builder, not the graph, chooses the types of tensors.
constexpr bool kIsWeaklyTyped = NV_TENSORRT_MAJOR < 10;

inline bool is_half(DataType type) noexcept {
#if NV_TENSORRT_MAJOR >= 10
  return type == DataType::kHALF || type == DataType::kBF16;
#else
  return type == DataType::kHALF;
#endif
}

inline samtrt::Tensor tensor_of(PluginTensorDesc const& desc) noexcept {
  bool const is_float = desc.type == DataType::kFLOAT;
  bool const is_half = desc.type == DataType::kHALF || is_float;
  samtrt::Tensor tensor{
      desc.dims.nbDims, {}, is_half ? samtrt::Type::kHalf : samtrt::Type::kBfloat16, is_float};
  for (int32_t i = 0; i < desc.dims.nbDims; ++i) {
    tensor.sizes[i] = static_cast<int>(desc.dims.d[i]);  // int64_t from TensorRT 10 on
  }
  return tensor;
}

template <typename Operator>
bool has_kernels(typename Operator::Attributes const& attributes,
                 PluginTensorDesc const& desc) noexcept {
  samtrt::Tensor const tensor = tensor_of(desc);
  if (Operator::supported(attributes, tensor)) return true;
  std::string text = std::string(Operator::kName) + " has no kernels for ";
  for (int i = 0; i < tensor.rank; ++i) {
    text += (i > 0 ? " x " : "") + std::to_string(tensor[i]);
  }
  log_error(text.c_str());
  return false;
}

// Tells whether an input or output, of which `first` is the first input, may be as it is. Channels
// last is kHWC8, which for a multiple of 8 channels is [B, G, G, C] in memory.
template <typename Operator>
bool is_supported(typename Operator::Attributes const& attributes, int32_t pos,
                  PluginTensorDesc const& desc, PluginTensorDesc const& first) noexcept {
  Kind const kind = Operator::kKinds[pos];
  if (kind == Kind::kFloats) {
    return desc.type == DataType::kFLOAT && desc.format == TensorFormat::kLINEAR;
  }
  TensorFormat const format = kind == Kind::kGrid ? TensorFormat::kHWC8 : TensorFormat::kLINEAR;
  bool const may_be_float = kind == Kind::kPixels && kIsWeaklyTyped;
  bool const is_float = desc.type == DataType::kFLOAT;
  if (desc.format != format || !(is_half(desc.type) || (may_be_float && is_float))) return false;
  if (pos == 0) return has_kernels<Operator>(attributes, desc);
  return desc.type == first.type || first.type == DataType::kFLOAT;
}

// The type of an output whose plugin's first input has the type `first`.
template <typename Operator>
DataType output_type(int32_t index, DataType first) noexcept {
  return Operator::kKinds[Operator::kInputs + index] == Kind::kFloats ? DataType::kFLOAT : first;
}

// The shape of an output.
template <typename Operator>
DimsExprs output_shape(typename Operator::Attributes const& attributes, int index,
                       DimsExprs const* inputs, nvinfer1::IExprBuilder& builder) noexcept {
  samtrt::Shape const shape = Operator::output(attributes, index);
  if (shape.rank == 0) return inputs[0];
  DimsExprs out;
  out.nbDims = shape.rank;
  for (int i = 0; i < shape.rank; ++i) {
    samtrt::Extent const& extent = shape.extents[i];
    if (extent.constant != 0) {
      out.d[i] = builder.constant(extent.constant);
      continue;
    }
    out.d[i] = inputs[extent.input].d[extent.axis];
    if (extent.divisor != 1) {
      out.d[i] = builder.operation(nvinfer1::DimensionOperation::kFLOOR_DIV, *out.d[i],
                                   *builder.constant(extent.divisor));
    }
    if (extent.factor != 1) {
      out.d[i] = builder.operation(nvinfer1::DimensionOperation::kPROD, *out.d[i],
                                   *builder.constant(extent.factor));
    }
  }
  return out;
}

template <typename Operator, typename Desc>
size_t workspace_size(Desc const& largest_of) noexcept {
  samtrt::Tensor in[Operator::kInputs];
  for (int i = 0; i < Operator::kInputs; ++i) in[i] = tensor_of(largest_of(i));
  return Operator::workspace(in);
}

// Runs the kernels; returns what enqueue returns, 0 for success.
template <typename Operator>
int32_t run(typename Operator::Attributes const& attributes, PluginTensorDesc const* descs,
            void const* const* inputs, void* const* outputs, void* workspace,
            cudaStream_t stream) noexcept {
  samtrt::Tensor in[Operator::kInputs];
  for (int i = 0; i < Operator::kInputs; ++i) in[i] = tensor_of(descs[i]);
  cudaError_t const error = Operator::run(attributes, in, inputs, outputs, workspace, stream);
  if (error == cudaSuccess) return 0;
  char text[256];
  std::snprintf(text, sizeof text, "%s: CUDA error %d (%s)", Operator::kName,
                static_cast<int>(error), cudaGetErrorString(error));
  log_error(text);
  return 1;
}

// An operator's attributes as fields of TensorRT, with or without values.
template <typename Operator>
class Fields {
 public:
  using Attributes = typename Operator::Attributes;

  static_assert(Operator::kFieldCount == 0 || sizeof(Attributes) == 4 * Operator::kFieldCount,
                "every attribute is a field of 4 bytes");

  explicit Fields(Attributes const* values = nullptr) noexcept {
    for (int i = 0; i < Operator::kFieldCount; ++i) {
      bool const is_float = Operator::kFields[i].is_float;
      fields_[i] = PluginField(Operator::kFields[i].name,
                               values ? reinterpret_cast<char const*>(values) + 4 * i : nullptr,
                               is_float ? PluginFieldType::kFLOAT32 : PluginFieldType::kINT32, 1);
    }
    collection_ = {Operator::kFieldCount, fields_};
  }

  Fields(Fields const&) = delete;

  PluginFieldCollection const* get() const noexcept { return &collection_; }

 private:
  PluginField fields_[Operator::kFieldCount > 0 ? Operator::kFieldCount : 1];
  PluginFieldCollection collection_;
};

template <typename Operator>
bool is_valid(typename Operator::Attributes const& attributes) noexcept {
  if (Operator::valid(attributes)) return true;
  log_error((std::string(Operator::kName) + ": an attribute is missing or out of range").c_str());
  return false;
}

// Reads what a graph or an engine file says of a plugin; tells whether that is whole and in range.
template <typename Operator>
bool read_fields(PluginFieldCollection const& given,
                 typename Operator::Attributes& attributes) noexcept {
  Fields<Operator> const known;
  for (int32_t i = 0; i < given.nbFields; ++i) {
    PluginField const& field = given.fields[i];
    for (int32_t k = 0; k < Operator::kFieldCount; ++k) {
      PluginField const& wanted = known.get()->fields[k];
      if (field.name && field.data && field.type == wanted.type &&
          std::strcmp(field.name, wanted.name) == 0) {
        std::memcpy(reinterpret_cast<char*>(&attributes) + 4 * k, field.data, 4);
      }
    }
  }
  return is_valid<Operator>(attributes);
}

}  // namespace samtrt_plugin
