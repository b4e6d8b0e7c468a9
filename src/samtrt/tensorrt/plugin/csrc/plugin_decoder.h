// The mask decoder's kernels as TensorRT plugins: SamtrtEmbedMasks, SamtrtTokensToImage,
// SamtrtImageToTokens and SamtrtUpscaleMasks. P prompts and T tokens vary from run to run; HW cells
// of the image do not.
#pragma once

#include "plugin_base.h"

namespace samtrt_plugin {

// The sizes that all checkpoints share.
constexpr int kChannels = 256, kHeadCount = 8, kMaskCount = 4;

// [P, HW, 256] with as many cells as the kernels take at once.
inline bool is_image(PluginTensorDesc const& desc) noexcept {
  return desc.dims.nbDims == 3 && size_of(desc, 1) > 0 && size_of(desc, 1) % 64 == 0 &&
         size_of(desc, 2) == kChannels;
}

inline float const* floats(void const* input) noexcept { return static_cast<float const*>(input); }

// Traits of what must know the height and width of the embedding in cells.
struct WithSide : Plain {
  struct Attributes {
    int32_t side;
    float epsilon;
  };

  static constexpr int32_t kFieldCount = 2;
  static inline PluginField const kFields[kFieldCount]{
      {"side", nullptr, PluginFieldType::kINT32, 1},
      {"epsilon", nullptr, PluginFieldType::kFLOAT32, 1}};

  static void set(Attributes& attributes, PluginField const& field) noexcept {
    read(field, "side", PluginFieldType::kINT32, attributes.side);
    read(field, "epsilon", PluginFieldType::kFLOAT32, attributes.epsilon);
  }
};

// (image, masks, has_mask, 11 weights as in MaskEmbedding) -> out; [1, S * S, 256],
// [P, 1, 4 S, 4 S], [P] -> [P, S * S, 256]
struct EmbedMasks : WithSide {
  static constexpr char const* kName = "SamtrtEmbedMasks";
  static constexpr int32_t kInputs = 14;
  static constexpr int32_t kOutputs = 1;
  static constexpr Kind kKinds[]{Kind::kRows,   Kind::kFloats, Kind::kFloats, Kind::kFloats,
                                 Kind::kFloats, Kind::kFloats, Kind::kFloats, Kind::kFloats,
                                 Kind::kFloats, Kind::kFloats, Kind::kFloats, Kind::kFloats,
                                 Kind::kFloats, Kind::kFloats, Kind::kRows};

  static bool valid(Attributes const& attributes) noexcept {
    return attributes.side > 0 && attributes.epsilon > 0.0F;
  }

  static DimsExprs output(Attributes const&, DimsExprs const* inputs,
                          nvinfer1::IExprBuilder&) noexcept {
    DimsExprs out(inputs[0]);
    out.d[0] = inputs[1].d[0];
    return out;
  }

  static bool supported(Attributes const& attributes, PluginTensorDesc const& image) noexcept {
    return is_image(image) && size_of(image, 0) == 1 &&
           size_of(image, 1) == attributes.side * attributes.side;
  }

  static cudaError_t run(Attributes const& attributes, PluginTensorDesc const* in,
                         void const* const* inputs, void* const* outputs, void*,
                         cudaStream_t stream) noexcept {
    samtrt::MaskEmbedding const weights{floats(inputs[3]),  floats(inputs[4]),  floats(inputs[5]),
                                        floats(inputs[6]),  floats(inputs[7]),  floats(inputs[8]),
                                        floats(inputs[9]),  floats(inputs[10]), floats(inputs[11]),
                                        floats(inputs[12]), floats(inputs[13])};
    return samtrt::embed_masks(half_type(in->type), inputs[0], floats(inputs[1]), floats(inputs[2]),
                               weights, outputs[0], size_of(in[1], 0), attributes.side,
                               attributes.epsilon, stream);
  }
};

// (queries, image, image_pe) -> out; [P, 8 T, 256], [P, HW, 256], [1, HW, 256] -> [P, 8 T, 256]
struct TokensToImage : WithoutAttributes {
  static constexpr char const* kName = "SamtrtTokensToImage";
  static constexpr int32_t kInputs = 3;
  static constexpr int32_t kOutputs = 1;
  static constexpr Kind kKinds[]{Kind::kRows, Kind::kRows, Kind::kRows, Kind::kRows};

  static bool supported(Attributes const&, PluginTensorDesc const& queries) noexcept {
    // A size that is worked out at run time counts as unknown until then.
    return queries.dims.nbDims == 3 &&
           (size_of(queries, 2) == kChannels || size_of(queries, 2) < 0);
  }

  static size_t workspace(PluginTensorDesc const* in) noexcept {
    return samtrt::tokens_to_image_workspace(size_of(in[0], 0), size_of(in[0], 1));
  }

  static cudaError_t run(Attributes const&, PluginTensorDesc const* in, void const* const* inputs,
                         void* const* outputs, void* workspace, cudaStream_t stream) noexcept {
    return samtrt::tokens_to_image(half_type(in->type), inputs[0], inputs[1], inputs[2], outputs[0],
                                   workspace, size_of(in[0], 0), size_of(in[0], 1),
                                   size_of(in[1], 1), stream);
  }
};

// (image, image_pe, keys, offsets, values, weight, bias) -> out; [P, HW, 256], [1, HW, 256],
// [P, 8 T, 256], [P, 8 T], [P, 8 T, 256], [256] twice -> [P, HW, 256]
struct ImageToTokens : Plain {
  static constexpr char const* kName = "SamtrtImageToTokens";
  static constexpr int32_t kInputs = 7;
  static constexpr int32_t kOutputs = 1;
  static constexpr Kind kKinds[]{Kind::kRows, Kind::kRows,   Kind::kRows,   Kind::kRows,
                                 Kind::kRows, Kind::kFloats, Kind::kFloats, Kind::kRows};

  struct Attributes {
    int32_t heads;
    float epsilon;
  };

  static constexpr int32_t kFieldCount = 2;
  static inline PluginField const kFields[kFieldCount]{
      {"num_heads", nullptr, PluginFieldType::kINT32, 1},
      {"epsilon", nullptr, PluginFieldType::kFLOAT32, 1}};

  static void set(Attributes& attributes, PluginField const& field) noexcept {
    read(field, "num_heads", PluginFieldType::kINT32, attributes.heads);
    read(field, "epsilon", PluginFieldType::kFLOAT32, attributes.epsilon);
  }

  static bool valid(Attributes const& attributes) noexcept {
    return attributes.heads == kHeadCount && attributes.epsilon > 0.0F;
  }

  static bool supported(Attributes const&, PluginTensorDesc const& image) noexcept {
    return is_image(image);
  }

  static cudaError_t run(Attributes const& attributes, PluginTensorDesc const* in,
                         void const* const* inputs, void* const* outputs, void*,
                         cudaStream_t stream) noexcept {
    return samtrt::image_to_tokens(half_type(in->type), inputs[0], inputs[1], inputs[2], inputs[3],
                                   inputs[4], floats(inputs[5]), floats(inputs[6]), outputs[0],
                                   size_of(in[0], 0), size_of(in[2], 1) / kHeadCount,
                                   size_of(in[0], 1), attributes.epsilon, stream);
  }
};

// (image, hyper, first, first_bias, norm_weight, norm_bias, second, second_bias) -> masks;
// [P, S * S, 256], [P, 4, 32], [256, 256], [64] three times, [128, 64], [32] -> [P, 4, 4 S, 4 S]
struct UpscaleMasks : WithSide {
  static constexpr char const* kName = "SamtrtUpscaleMasks";
  static constexpr int32_t kInputs = 8;
  static constexpr int32_t kOutputs = 1;
  static constexpr Kind kKinds[]{Kind::kRows,   Kind::kRows,   Kind::kRows,
                                 Kind::kFloats, Kind::kFloats, Kind::kFloats,
                                 Kind::kRows,   Kind::kFloats, Kind::kFloats};

  static bool valid(Attributes const& attributes) noexcept {
    return attributes.side > 0 && attributes.side % 4 == 0 && attributes.epsilon > 0.0F;
  }

  static DimsExprs output(Attributes const& attributes, DimsExprs const* inputs,
                          nvinfer1::IExprBuilder& builder) noexcept {
    DimsExprs masks;
    masks.nbDims = 4;
    masks.d[0] = inputs[0].d[0];
    masks.d[1] = builder.constant(kMaskCount);
    masks.d[2] = masks.d[3] = builder.constant(4 * attributes.side);
    return masks;
  }

  static bool supported(Attributes const& attributes, PluginTensorDesc const& image) noexcept {
    return is_image(image) && size_of(image, 1) == attributes.side * attributes.side;
  }

  static cudaError_t run(Attributes const& attributes, PluginTensorDesc const* in,
                         void const* const* inputs, void* const* outputs, void*,
                         cudaStream_t stream) noexcept {
    return samtrt::upscale_masks(half_type(in->type), inputs[0], inputs[1], inputs[2],
                                 floats(inputs[3]), floats(inputs[4]), floats(inputs[5]), inputs[6],
                                 floats(inputs[7]), static_cast<float*>(outputs[0]),
                                 size_of(in[0], 0), attributes.side, attributes.epsilon, stream);
  }
};

}  // namespace samtrt_plugin
