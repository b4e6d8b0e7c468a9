// Plugins of Traits for TensorRT 11: IPluginV3. Networks are strongly typed.
#pragma once

#include "plugin_base.h"

namespace samtrt_plugin {

using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::IPluginCapability;
using nvinfer1::IPluginCreatorV3One;
using nvinfer1::IPluginV3;
using nvinfer1::IPluginV3OneBuild;
using nvinfer1::IPluginV3OneCore;
using nvinfer1::IPluginV3OneRuntime;
using nvinfer1::PluginCapabilityType;
using nvinfer1::PluginFieldCollection;

// The plugin's whole state are its Attributes: fields of 4 bytes in the order of kFields, by which
// an engine file keeps them.
template <typename Traits>
class Plugin final : public IPluginV3,
                     public IPluginV3OneCore,
                     public IPluginV3OneBuild,
                     public IPluginV3OneRuntime {
 public:
  using Attributes = typename Traits::Attributes;

  static_assert(Traits::kFieldCount == 0 || sizeof(Attributes) == 4 * Traits::kFieldCount,
                "every attribute is a field of 4 bytes");

  explicit Plugin(Attributes const& attributes) noexcept : attributes_(attributes) {}

  IPluginCapability* getCapabilityInterface(PluginCapabilityType type) noexcept override {
    switch (type) {
      case PluginCapabilityType::kCORE:
        return static_cast<IPluginV3OneCore*>(this);
      case PluginCapabilityType::kBUILD:
        return static_cast<IPluginV3OneBuild*>(this);
      case PluginCapabilityType::kRUNTIME:
        return static_cast<IPluginV3OneRuntime*>(this);
    }
    return nullptr;
  }

  IPluginV3* clone() noexcept override { return new (std::nothrow) Plugin(attributes_); }

  char const* getPluginName() const noexcept override { return Traits::kName; }

  char const* getPluginVersion() const noexcept override { return "1"; }

  char const* getPluginNamespace() const noexcept override { return ""; }

  int32_t getNbOutputs() const noexcept override { return Traits::kOutputs; }

  int32_t configurePlugin(DynamicPluginTensorDesc const*, int32_t, DynamicPluginTensorDesc const*,
                          int32_t) noexcept override {
    return 0;
  }

  int32_t getOutputDataTypes(DataType* types, int32_t outputs, DataType const* input_types,
                             int32_t inputs) const noexcept override {
    if (inputs != Traits::kInputs || outputs != Traits::kOutputs) {
      return 1;
    }
    for (int32_t i = 0; i < outputs; ++i) {
      types[i] = output_type<Traits>(i, input_types[0]);
    }
    return 0;
  }

  int32_t getOutputShapes(DimsExprs const* inputs, int32_t count, DimsExprs const*, int32_t,
                          DimsExprs* shapes, int32_t outputs,
                          nvinfer1::IExprBuilder& builder) noexcept override {
    if (count != Traits::kInputs || outputs != Traits::kOutputs) {
      return 1;
    }
    for (int32_t i = 0; i < outputs; ++i) {
      shapes[i] = Traits::output(attributes_, inputs, builder);
    }
    return 0;
  }

  bool supportsFormatCombination(int32_t pos, DynamicPluginTensorDesc const* in_out, int32_t inputs,
                                 int32_t outputs) noexcept override {
    return inputs == Traits::kInputs && outputs == Traits::kOutputs &&
           is_supported<Traits>(attributes_, pos, in_out[pos].desc, in_out[0].desc);
  }

  size_t getWorkspaceSize(DynamicPluginTensorDesc const* in, int32_t,
                          DynamicPluginTensorDesc const*, int32_t) const noexcept override {
    PluginTensorDesc largest[Traits::kInputs];
    for (int32_t i = 0; i < Traits::kInputs; ++i) {
      largest[i] = in[i].desc;
      largest[i].dims = in[i].max;
    }
    return Traits::workspace(largest);
  }

  int32_t onShapeChange(PluginTensorDesc const*, int32_t, PluginTensorDesc const*,
                        int32_t) noexcept override {
    return 0;
  }

  int32_t enqueue(PluginTensorDesc const* in, PluginTensorDesc const*, void const* const* inputs,
                  void* const* outputs, void* workspace, cudaStream_t stream) noexcept override {
    return checked(Traits::run(attributes_, in, inputs, outputs, workspace, stream), Traits::kName);
  }

  IPluginV3* attachToContext(nvinfer1::IPluginResourceContext*) noexcept override {
    return clone();
  }

  PluginFieldCollection const* getFieldsToSerialize() noexcept override {
    for (int32_t i = 0; i < Traits::kFieldCount; ++i) {
      fields_[i] = Traits::kFields[i];
      fields_[i].data = reinterpret_cast<char const*>(&attributes_) + 4 * i;
    }
    collection_ = {Traits::kFieldCount, fields_};
    return &collection_;
  }

 private:
  Attributes attributes_;
  PluginField fields_[Traits::kFieldCount > 0 ? Traits::kFieldCount : 1];
  PluginFieldCollection collection_{};
};

// Makes plugins from a graph's attributes and from an engine file, which come alike.
template <typename Traits>
class Creator final : public IPluginCreatorV3One {
 public:
  char const* getPluginName() const noexcept override { return Traits::kName; }

  char const* getPluginVersion() const noexcept override { return "1"; }

  char const* getPluginNamespace() const noexcept override { return ""; }

  PluginFieldCollection const* getFieldNames() noexcept override { return &fields_; }

  IPluginV3* createPlugin(char const*, PluginFieldCollection const* fields,
                          nvinfer1::TensorRTPhase) noexcept override {
    typename Traits::Attributes attributes{};
    return read_fields<Traits>(*fields, attributes) ? new (std::nothrow) Plugin<Traits>(attributes)
                                                    : nullptr;
  }

 private:
  PluginFieldCollection fields_{Traits::kFieldCount, Traits::kFields};
};

}  // namespace samtrt_plugin
