// The library's plugins, version "1", for whoever loads it. Nothing of TensorRT is linked: the
// registry is handed in, and everything goes through virtual calls.

#include "plugin_decoder.h"
#include "plugin_encoder.h"

#define SAMTRT_EXPORT extern "C" __attribute__((visibility("default")))

using namespace samtrt_plugin;

// What follows but the last two is what IPluginRegistry::loadLibrary and trtexec --dynamicPlugins
// call by name. TensorRT 10 asks for creators of IPluginV3 as well, in getCreators, and takes a
// library that has none.

SAMTRT_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder) { logger_finder.store(finder); }

SAMTRT_EXPORT IPluginCreator* const* getPluginCreators(int32_t& count) {
  static Creator<RelPosAttention> attention;
  static Creator<LayerNorm<false>> layer_norm;
  static Creator<LayerNorm<true>> add_layer_norm;
  static Creator<Gelu> gelu;
  static Creator<EmbedMasks> embed_masks;
  static Creator<TokensToImage> tokens_to_image;
  static Creator<ImageToTokens> image_to_tokens;
  static Creator<UpscaleMasks> upscale_masks;
  static IPluginCreator* const creators[]{
      &attention,   &layer_norm,      &add_layer_norm,  &gelu,
      &embed_masks, &tokens_to_image, &image_to_tokens, &upscale_masks};
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
