// Plugins of operators for TensorRT 8.6: IPluginV2DynamicExt, the only interface that it has for
// sizes that vary. Networks are weakly typed.
#pragma once

#include "plugin_base.h"

namespace samtrt_plugin {

using nvinfer1::IPluginCreator;
using nvinfer1::IPluginV2;
using nvinfer1::IPluginV2DynamicExt;

// The plugin's whole state, and what an engine file keeps of it, are its Attributes.
template <typename Operator>
class Plugin final : public IPluginV2DynamicExt {
 public:
  using Attributes = typename Operator::Attributes;

  explicit Plugin(Attributes const& attributes) noexcept : attributes_(attributes) {}

  char const* getPluginType() const noexcept override { return Operator::kName; }

  char const* getPluginVersion() const noexcept override { return "1"; }

  int32_t getNbOutputs() const noexcept override { return Operator::kOutputs; }

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
  DataType getOutputDataType(int32_t index, DataType const* types,
                             int32_t) const noexcept override {
    return output_type<Operator>(index, types[0]);
  }

  DimsExprs getOutputDimensions(int32_t index, DimsExprs const* inputs, int32_t,
                                nvinfer1::IExprBuilder& builder) noexcept override {
    return output_shape<Operator>(attributes_, index, inputs, builder);
  }

  bool supportsFormatCombination(int32_t pos, PluginTensorDesc const* in_out, int32_t inputs,
                                 int32_t outputs) noexcept override {
    return inputs == Operator::kInputs && outputs == Operator::kOutputs &&
           is_supported<Operator>(attributes_, pos, in_out[pos], in_out[0]);
  }

  void configurePlugin(nvinfer1::DynamicPluginTensorDesc const*, int32_t,
                       nvinfer1::DynamicPluginTensorDesc const*, int32_t) noexcept override {}

  size_t getWorkspaceSize(PluginTensorDesc const* in, int32_t, PluginTensorDesc const*,
                          int32_t) const noexcept override {
    return workspace_size<Operator>([in](int i) { return in[i]; });
  }

  int32_t enqueue(PluginTensorDesc const* in, PluginTensorDesc const*, void const* const* inputs,
                  void* const* outputs, void* workspace, cudaStream_t stream) noexcept override {
    return run<Operator>(attributes_, in, inputs, outputs, workspace, stream);
  }

 private:
  Attributes attributes_;
  std::string namespace_;
};

// Makes plugins from a graph's attributes and from an engine file.
template <typename Operator>
class Creator final : public IPluginCreator {
 public:
  using Attributes = typename Operator::Attributes;

  char const* getPluginName() const noexcept override { return Operator::kName; }

  char const* getPluginVersion() const noexcept override { return "1"; }

  PluginFieldCollection const* getFieldNames() noexcept override { return fields_.get(); }

  IPluginV2* createPlugin(char const*, PluginFieldCollection const* fields) noexcept override {
    Attributes attributes{};
    return read_fields<Operator>(*fields, attributes) ? make(attributes) : nullptr;
  }

  IPluginV2* deserializePlugin(char const*, void const* data, size_t size) noexcept override {
    Attributes attributes{};
    if (!data || size != sizeof(Attributes)) {
      return nullptr;
    }
    std::memcpy(&attributes, data, size);
    return is_valid<Operator>(attributes) ? make(attributes) : nullptr;
  }

  void setPluginNamespace(char const* text) noexcept override { namespace_ = text ? text : ""; }

  char const* getPluginNamespace() const noexcept override { return namespace_.c_str(); }

 private:
  IPluginV2* make(Attributes const& attributes) noexcept {
    auto* const plugin = new (std::nothrow) Plugin<Operator>(attributes);
    if (plugin) {
      plugin->setPluginNamespace(namespace_.c_str());
    }
    return plugin;
  }

  std::string namespace_;
  Fields<Operator> fields_;
};

}  // namespace samtrt_plugin
