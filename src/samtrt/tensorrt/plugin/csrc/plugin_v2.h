// Plugins of Traits for TensorRT 8.6 to 10: IPluginV2DynamicExt, the only interface that 8.6 has
// for sizes that vary, deprecated in 10 and gone from 11. Networks are weakly typed.
#pragma once

#include "plugin_base.h"

namespace samtrt_plugin {

using nvinfer1::IPluginCreator;
using nvinfer1::IPluginV2;
using nvinfer1::IPluginV2DynamicExt;
using nvinfer1::PluginFieldCollection;

// The plugin's whole state, and what an engine file keeps of it, are its Attributes.
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
    return output_type<Traits>(0, types[0]);
  }

  DimsExprs getOutputDimensions(int32_t, DimsExprs const* inputs, int32_t,
                                nvinfer1::IExprBuilder& builder) noexcept override {
    return Traits::output(attributes_, inputs, builder);
  }

  bool supportsFormatCombination(int32_t pos, PluginTensorDesc const* in_out, int32_t inputs,
                                 int32_t outputs) noexcept override {
    return inputs == Traits::kInputs && outputs == Traits::kOutputs &&
           is_supported<Traits>(attributes_, pos, in_out[pos], in_out[0]);
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
    return read_fields<Traits>(*fields, attributes) ? make(attributes) : nullptr;
  }

  IPluginV2* deserializePlugin(char const*, void const* data, size_t size) noexcept override {
    Attributes attributes{};
    if (!data || size != sizeof(Attributes)) {
      return nullptr;
    }
    std::memcpy(&attributes, data, size);
    return is_valid<Traits>(attributes) ? make(attributes) : nullptr;
  }

  void setPluginNamespace(char const* text) noexcept override { namespace_ = text ? text : ""; }

  char const* getPluginNamespace() const noexcept override { return namespace_.c_str(); }

 private:
  IPluginV2* make(Attributes const& attributes) noexcept {
    auto* const plugin = new (std::nothrow) Plugin<Traits>(attributes);
    if (plugin) {
      plugin->setPluginNamespace(namespace_.c_str());
    }
    return plugin;
  }

  std::string namespace_;
  PluginFieldCollection fields_{Traits::kFieldCount, Traits::kFields};
};

}  // namespace samtrt_plugin
