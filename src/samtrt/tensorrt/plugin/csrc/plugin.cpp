// The library's plugins, version "1", for whoever loads it. Nothing of TensorRT is linked: the
// registry is handed in, and everything goes through virtual calls.

#include "plugin_decoder.h"
#include "plugin_encoder.h"
#if NV_TENSORRT_MAJOR < 11
#include "plugin_v2.h"
#else
#include "plugin_v3.h"
#endif

#define SAMTRT_EXPORT extern "C" __attribute__((visibility("default")))

using namespace samtrt_plugin;

#if NV_TENSORRT_MAJOR < 11
using AnyCreator = nvinfer1::IPluginCreator;
#else
using AnyCreator = nvinfer1::IPluginCreatorInterface;
#endif

static AnyCreator* const* all_creators(int32_t& count) {
  static Creator<RelPosAttention> attention;
  static Creator<LayerNorm<false>> layer_norm;
  static Creator<LayerNorm<true>> add_layer_norm;
  static Creator<Gelu> gelu;
  static Creator<EmbedMasks> embed_masks;
  static Creator<TokensToImage> tokens_to_image;
  static Creator<ImageToTokens> image_to_tokens;
  static Creator<UpscaleMasks> upscale_masks;
  static AnyCreator* const creators[]{
      &attention,   &layer_norm,      &add_layer_norm,  &gelu,
      &embed_masks, &tokens_to_image, &image_to_tokens, &upscale_masks};
  count = sizeof creators / sizeof *creators;
  return creators;
}

// These two are what IPluginRegistry::loadLibrary and trtexec --dynamicPlugins call by name.
// TensorRT 10 asks in getCreators for creators of IPluginV3 as well, and takes a library that has
// none.
SAMTRT_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder) { logger_finder.store(finder); }

#if NV_TENSORRT_MAJOR < 11
SAMTRT_EXPORT AnyCreator* const* getPluginCreators(int32_t& count) { return all_creators(count); }
#else
SAMTRT_EXPORT AnyCreator* const* getCreators(int32_t& count) { return all_creators(count); }
#endif

// Registers the creators; returns how many were refused, as those are whose name is taken. Does
// what loadLibrary does, whose place in IPluginRegistry differs between TensorRT 8.6.0 and 8.6.1,
// so that the bindings of the one call something else in the other; registerCreator has always been
// the first. `registry` is what getPluginRegistry() returns, `logger` getLogger() or null; it must
// outlive every engine that has these plugins.
SAMTRT_EXPORT int32_t samtrt_register_plugins(nvinfer1::IPluginRegistry* registry,
                                              nvinfer1::ILogger* logger) {
  common_logger.store(logger);
  int32_t count = 0;
  AnyCreator* const* const creators = all_creators(count);
  int32_t refused = 0;
  for (int32_t i = 0; i < count; ++i) {
    refused += registry->registerCreator(*creators[i], "") ? 0 : 1;
  }
  return refused;
}

// Major version of the headers that the library was compiled against.
SAMTRT_EXPORT int32_t samtrt_plugin_tensorrt_major() { return NV_TENSORRT_MAJOR; }
