// Plugins of operators for TensorRT 10 and 11: IPluginV3. Networks are strongly typed.
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

// The plugin's whole state are its Attributes: fields of 4 bytes in the order of kFields, by which
// an engine file keeps them.
template <typename Operator>
class Plugin final : public IPluginV3,
                     public IPluginV3OneCore,
                     public IPluginV3OneBuild,
                     public IPluginV3OneRuntime {
 public:
  using Attributes = typename Operator::Attributes;

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

  char const* getPluginName() const noexcept override { return Operator::kName; }

  char const* getPluginVersion() const noexcept override { return "1"; }

  char const* getPluginNamespace() const noexcept override { return ""; }

  int32_t getNbOutputs() const noexcept override { return Operator::kOutputs; }

  int32_t configurePlugin(DynamicPluginTensorDesc const*, int32_t, DynamicPluginTensorDesc const*,
                          int32_t) noexcept override {
    return 0;
  }

  int32_t getOutputDataTypes(DataType* types, int32_t outputs, DataType const* input_types,
                             int32_t inputs) const noexcept override {
    if (inputs != Operator::kInputs || outputs != Operator::kOutputs) {
      return 1;
    }
    for (int32_t i = 0; i < outputs; ++i) {
      types[i] = output_type<Operator>(i, input_types[0]);
    }
    return 0;
  }

  int32_t getOutputShapes(DimsExprs const* inputs, int32_t count, DimsExprs const*, int32_t,
                          DimsExprs* shapes, int32_t outputs,
                          nvinfer1::IExprBuilder& builder) noexcept override {
    if (count != Operator::kInputs || outputs != Operator::kOutputs) {
      return 1;
    }
    for (int32_t i = 0; i < outputs; ++i) {
      shapes[i] = output_shape<Operator>(attributes_, i, inputs, builder);
    }
    return 0;
  }

  bool supportsFormatCombination(int32_t pos, DynamicPluginTensorDesc const* in_out, int32_t inputs,
                                 int32_t outputs) noexcept override {
    return inputs == Operator::kInputs && outputs == Operator::kOutputs &&
           is_supported<Operator>(attributes_, pos, in_out[pos].desc, in_out[0].desc);
  }

  size_t getWorkspaceSize(DynamicPluginTensorDesc const* in, int32_t,
                          DynamicPluginTensorDesc const*, int32_t) const noexcept override {
    return workspace_size<Operator>([in](int i) {
      PluginTensorDesc largest = in[i].desc;
      largest.dims = in[i].max;
      return largest;
    });
  }

  int32_t onShapeChange(PluginTensorDesc const*, int32_t, PluginTensorDesc const*,
                        int32_t) noexcept override {
    return 0;
  }

  int32_t enqueue(PluginTensorDesc const* in, PluginTensorDesc const*, void const* const* inputs,
                  void* const* outputs, void* workspace, cudaStream_t stream) noexcept override {
    return run<Operator>(attributes_, in, inputs, outputs, workspace, stream);
  }

  IPluginV3* attachToContext(nvinfer1::IPluginResourceContext*) noexcept override {
    return clone();
  }

  PluginFieldCollection const* getFieldsToSerialize() noexcept override { return fields_.get(); }

 private:
  Attributes attributes_;
  Fields<Operator> fields_{&attributes_};
};

// Makes plugins from a graph's attributes and from an engine file, which come alike.
template <typename Operator>
class Creator final : public IPluginCreatorV3One {
 public:
  char const* getPluginName() const noexcept override { return Operator::kName; }

  char const* getPluginVersion() const noexcept override { return "1"; }

  char const* getPluginNamespace() const noexcept override { return ""; }

  PluginFieldCollection const* getFieldNames() noexcept override { return fields_.get(); }

  IPluginV3* createPlugin(char const*, PluginFieldCollection const* fields,
                          nvinfer1::TensorRTPhase) noexcept override {
    typename Operator::Attributes attributes{};
    return read_fields<Operator>(*fields, attributes) ? new (std::nothrow)
                                                            Plugin<Operator>(attributes)
                                                      : nullptr;
  }

 private:
  Fields<Operator> fields_;
};

}  // namespace samtrt_plugin
