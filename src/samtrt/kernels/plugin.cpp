// The encoder's kernels as TensorRT plugins: SamtrtRelPosAttention, SamtrtLayerNorm and
// SamtrtAddLayerNorm, version "1". Nothing of TensorRT is linked: whoever loads the library hands
// in the registry, and everything goes through virtual calls.
//
// The graph is NCHW; activations are asked for as kHWC8, which for a multiple of 8 channels is
// [batch, grid, grid, channels] in memory. Weights, biases and tables come as float32.

#include "plugin_base.h"

#define SAMTRT_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using namespace samtrt_plugin;

// (qkv, qkv_bias, rel_pos_h, rel_pos_w) -> out; [B, 3C, G, G], [3C], [2S-1, D] twice -> [B, C, G,
// G]
struct RelPosAttention {
  static constexpr char const* kName = "SamtrtRelPosAttention";
  static constexpr int32_t kInputs = 4;
  static constexpr int32_t kActivations = 1;
  static constexpr int32_t kOutputs = 1;

  struct Attributes {
    int32_t heads;
    int32_t window;  // side of the windows in tokens, 0 for global attention
  };

  static constexpr int32_t kFieldCount = 2;
  static inline PluginField const kFields[kFieldCount]{
      {"num_heads", nullptr, PluginFieldType::kINT32, 1},
      {"window", nullptr, PluginFieldType::kINT32, 1}};

  static void set(Attributes& attributes, PluginField const& field) noexcept {
    read(field, "num_heads", PluginFieldType::kINT32, attributes.heads);
    read(field, "window", PluginFieldType::kINT32, attributes.window);
  }

  static bool valid(Attributes const& attributes) noexcept {
    return attributes.heads > 0 && attributes.window >= 0;
  }

  static DimsExprs output(DimsExprs const& qkv, nvinfer1::IExprBuilder& builder) noexcept {
    DimsExprs out(qkv);
    out.d[1] = builder.operation(nvinfer1::DimensionOperation::kFLOOR_DIV, *qkv.d[1],
                                 *builder.constant(3));
    return out;
  }

  static bool supported(Attributes const& attributes, Sizes const& qkv) noexcept {
    int const parts = 3 * attributes.heads;
    return qkv.channels % parts == 0 &&
           samtrt::attention_supported(qkv.height, qkv.channels / parts, attributes.window);
  }

  static cudaError_t run(Attributes const& attributes, PluginTensorDesc const& desc,
                         void const* const* inputs, void* const* outputs,
                         cudaStream_t stream) noexcept {
    Sizes const qkv(desc);
    return samtrt::rel_pos_attention(
        half_type(desc.type), inputs[0], static_cast<float const*>(inputs[1]),
        static_cast<float const*>(inputs[2]), static_cast<float const*>(inputs[3]), outputs[0],
        qkv.batch, qkv.height, attributes.heads, qkv.channels / (3 * attributes.heads),
        attributes.window, stream);
  }
};

// (x, weight, bias) -> y, or with kAdd (x, delta, weight, bias) -> (sum, y); [B, C, G, G] and [C]
template <bool kAdd>
struct LayerNorm {
  static constexpr char const* kName = kAdd ? "SamtrtAddLayerNorm" : "SamtrtLayerNorm";
  static constexpr int32_t kActivations = kAdd ? 2 : 1;
  static constexpr int32_t kInputs = kActivations + 2;
  static constexpr int32_t kOutputs = kAdd ? 2 : 1;

  struct Attributes {
    float epsilon;
  };

  static constexpr int32_t kFieldCount = 1;
  static inline PluginField const kFields[kFieldCount]{
      {"epsilon", nullptr, PluginFieldType::kFLOAT32, 1}};

  static void set(Attributes& attributes, PluginField const& field) noexcept {
    read(field, "epsilon", PluginFieldType::kFLOAT32, attributes.epsilon);
  }

  static bool valid(Attributes const& attributes) noexcept { return attributes.epsilon > 0.0F; }

  static DimsExprs output(DimsExprs const& x, nvinfer1::IExprBuilder&) noexcept { return x; }

  static bool supported(Attributes const&, Sizes const& x) noexcept { return x.channels % 8 == 0; }

  static cudaError_t run(Attributes const& attributes, PluginTensorDesc const& desc,
                         void const* const* inputs, void* const* outputs,
                         cudaStream_t stream) noexcept {
    Sizes const x(desc);
    return samtrt::layer_norm(half_type(desc.type), inputs[0], kAdd ? inputs[1] : nullptr,
                              static_cast<float const*>(inputs[kActivations]),
                              static_cast<float const*>(inputs[kActivations + 1]),
                              kAdd ? outputs[0] : nullptr, outputs[kOutputs - 1],
                              x.batch * x.height * x.width, x.channels, attributes.epsilon, stream);
  }
};

}  // namespace

// What follows but the last two is what IPluginRegistry::loadLibrary and trtexec --dynamicPlugins
// call by name. TensorRT 10 asks for creators of IPluginV3 as well, in getCreators, and takes a
// library that has none.

SAMTRT_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder) { logger_finder.store(finder); }

SAMTRT_EXPORT IPluginCreator* const* getPluginCreators(int32_t& count) {
  static Creator<RelPosAttention> attention;
  static Creator<LayerNorm<false>> layer_norm;
  static Creator<LayerNorm<true>> add_layer_norm;
  static IPluginCreator* const creators[]{&attention, &layer_norm, &add_layer_norm};
  count = sizeof creators / sizeof *creators;
  return creators;
}

// Registers the creators; returns how many were refused, as those are whose name is taken. Does
// what loadLibrary does, whose place in IPluginRegistry differs between TensorRT 8.6.0 and 8.6.1,
// so that the bindings of the one call something else in the other; registerCreator has always been
// the first. `registry` is what getPluginRegistry() returns, `logger` getLogger() or null; it must
// outlive every engine that has these plugins.
SAMTRT_EXPORT int32_t samtrt_register_plugins(nvinfer1::IPluginRegistry* registry,
                                              nvinfer1::ILogger* logger) {
  common_logger.store(logger);
  int32_t count = 0;
  IPluginCreator* const* const creators = getPluginCreators(count);
  int32_t refused = 0;
  for (int32_t i = 0; i < count; ++i) {
    refused += registry->registerCreator(*creators[i], "") ? 0 : 1;
  }
  return refused;
}

// Major version of the headers that the library was compiled against.
SAMTRT_EXPORT int32_t samtrt_plugin_tensorrt_major() { return NV_TENSORRT_MAJOR; }
