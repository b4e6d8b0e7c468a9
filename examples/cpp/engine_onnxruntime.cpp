// Engines of ONNX Runtime, on the CPU, from a model directory's graphs.

#include <onnxruntime_cxx_api.h>

#include <stdexcept>

#include "engine.h"

namespace samtrt {
namespace {

class OnnxRuntime : public Engine {
 public:
  explicit OnnxRuntime(std::filesystem::path const& graph)
      : environment_(ORT_LOGGING_LEVEL_FATAL, "samtrt"),
        session_(environment_, graph.c_str(), Ort::SessionOptions{}) {
    Ort::AllocatorWithDefaultOptions allocator;
    for (size_t i = 0; i < session_.GetInputCount(); ++i) {
      inputs_.push_back(session_.GetInputNameAllocated(i, allocator).get());
    }
    for (size_t i = 0; i < session_.GetOutputCount(); ++i) {
      outputs_.push_back(session_.GetOutputNameAllocated(i, allocator).get());
    }
  }

  Tensors run(Tensors const& inputs) override {
    auto const memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    std::vector<char const*> names, wanted;
    std::vector<Ort::Value> values;
    for (auto const& name : inputs_) {
      auto const& given = inputs.at(name);
      names.push_back(name.c_str());
      values.push_back(Ort::Value::CreateTensor<float>(
          memory, const_cast<float*>(given.values.data()), given.values.size(),  // only read
          given.shape.data(), given.shape.size()));
    }
    for (auto const& name : outputs_) wanted.push_back(name.c_str());
    auto const made = session_.Run(Ort::RunOptions{nullptr}, names.data(), values.data(),
                                   values.size(), wanted.data(), wanted.size());
    Tensors outputs;
    for (size_t i = 0; i < made.size(); ++i) {
      auto const info = made[i].GetTensorTypeAndShapeInfo();
      float const* first = made[i].GetTensorData<float>();
      outputs[outputs_[i]] = {info.GetShape(), {first, first + info.GetElementCount()}};
    }
    return outputs;
  }

 private:
  Ort::Env environment_;
  Ort::Session session_;
  std::vector<std::string> inputs_, outputs_;
};

}  // namespace

std::unique_ptr<Engine> open_engine(Model const& model, std::string const& stage) {
  return std::make_unique<OnnxRuntime>(model.graph(stage));
}

}  // namespace samtrt
