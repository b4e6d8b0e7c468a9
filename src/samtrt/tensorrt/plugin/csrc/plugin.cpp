// The library's plugins, version "1", for whoever loads it. Nothing of TensorRT is linked: the
// registry is handed in, and everything goes through virtual calls.

#include <NvInferVersion.h>

#include <tuple>

#include "operators.h"
#if NV_TENSORRT_MAJOR < 10
#include "plugin_v2.h"
#else
#include "plugin_v3.h"
#endif

#define SAMTRT_EXPORT extern "C" __attribute__((visibility("default")))

using namespace samtrt_plugin;

#if NV_TENSORRT_MAJOR < 10
using AnyCreator = nvinfer1::IPluginCreator;
#else
using AnyCreator = nvinfer1::IPluginCreatorInterface;
#endif

template <typename... Operators>
static AnyCreator* const* creators_of(samtrt::List<Operators...>, int32_t& count) {
  static std::tuple<Creator<Operators>...> creators;
  static AnyCreator* const listed[]{&std::get<Creator<Operators>>(creators)...};
  count = sizeof...(Operators);
  return listed;
}

static AnyCreator* const* all_creators(int32_t& count) {
  return creators_of(samtrt::AllOperators(), count);
}

// These two are what IPluginRegistry::loadLibrary and trtexec --dynamicPlugins call by name.
SAMTRT_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder) { logger_finder.store(finder); }

#if NV_TENSORRT_MAJOR < 10
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
