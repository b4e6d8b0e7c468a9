// Engines of TensorRT 8.6, 10 or 11, on one GPU, that `samtrt build --target tensorrt` has built.

#include <NvInfer.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "engine.h"
#include "json_file.h"

namespace samtrt {
namespace {

void check(cudaError_t error) {
  if (error != cudaSuccess) {
    throw std::runtime_error(std::string("CUDA fails: ") + cudaGetErrorString(error));
  }
}

// Keeps the first error, which is the reason of what follows.
class Logger : public nvinfer1::ILogger {
 public:
  void log(Severity severity, char const* text) noexcept override {
    if (severity <= Severity::kERROR && first.empty()) first = text;
  }
  [[noreturn]] void fail(std::string const& what) const {
    throw std::runtime_error("TensorRT " + what + ": " +
                             (first.empty() ? "no reason given" : first));
  }
  std::string first;
};

struct DeviceMemory {
  explicit DeviceMemory(size_t bytes) { check(cudaMalloc(&pointer, bytes)); }
  ~DeviceMemory() { cudaFree(pointer); }
  DeviceMemory(DeviceMemory const&) = delete;
  void* pointer = nullptr;
};

class TensorRt : public Engine {
 public:
  TensorRt(std::filesystem::path const& file, bool holds_host_code) {
    check(cudaFree(nullptr));  // starts CUDA: without it TensorRT's runtime is a bad pointer
    runtime_.reset(nvinfer1::createInferRuntime(logger_));
    if (!runtime_) logger_.fail("does not start");
    runtime_->setEngineHostCodeAllowed(holds_host_code);
    std::ifstream stream(file, std::ios::binary);
    std::vector<char> const bytes{std::istreambuf_iterator<char>(stream), {}};
    engine_.reset(runtime_->deserializeCudaEngine(bytes.data(), bytes.size()));
    if (!engine_) logger_.fail("cannot load " + file.string() + "; build it here again");
    context_.reset(engine_->createExecutionContext());
    if (!context_) logger_.fail("has no room to run " + file.string());
  }

  Tensors run(Tensors const& inputs) override {
    std::vector<std::unique_ptr<DeviceMemory>> memory;
    auto bind = [&](char const* name, size_t count) {
      memory.push_back(std::make_unique<DeviceMemory>(count * sizeof(float)));
      if (!context_->setTensorAddress(name, memory.back()->pointer)) logger_.fail(name);
      return memory.back()->pointer;
    };
    for (auto const& [name, given] : inputs) {
      nvinfer1::Dims shape{};
      shape.nbDims = int32_t(given.shape.size());
      std::copy(given.shape.begin(), given.shape.end(), shape.d);
      if (!context_->setInputShape(name.c_str(), shape)) logger_.fail("refuses " + name);
      check(cudaMemcpy(bind(name.c_str(), given.values.size()), given.values.data(),
                       given.values.size() * sizeof(float), cudaMemcpyHostToDevice));
    }
    Tensors outputs;
    std::map<std::string, void*> made;
    for (int32_t i = 0; i < engine_->getNbIOTensors(); ++i) {
      char const* name = engine_->getIOTensorName(i);
      if (engine_->getTensorIOMode(name) != nvinfer1::TensorIOMode::kOUTPUT) continue;
      auto const shape = context_->getTensorShape(name);
      auto& output = outputs[name];
      output.shape.assign(shape.d, shape.d + shape.nbDims);
      size_t count = 1;
      for (auto size : output.shape) count *= size_t(size);
      output.values.resize(count);
      made[name] = bind(name, count);
    }
    if (!context_->enqueueV3(nullptr)) logger_.fail("fails to run");
    check(cudaStreamSynchronize(nullptr));
    for (auto& [name, output] : outputs) {
      check(cudaMemcpy(output.values.data(), made[name], output.values.size() * sizeof(float),
                       cudaMemcpyDeviceToHost));
    }
    return outputs;
  }

 private:
  Logger logger_;
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
};

}  // namespace

std::unique_ptr<Engine> open_engine(Model const& model, std::string const& stage) {
  auto const file = model.directory / (stage + ".tensorrt.engine");
  auto const sidecar = model.directory / (stage + ".tensorrt.json");
  auto const again =
      "; build it here with: samtrt build " + model.directory.string() + " --target tensorrt";
  std::error_code missing;
  auto const size = std::filesystem::file_size(file, missing);
  if (missing) throw std::runtime_error("there is no " + file.string() + again);
  auto const record = read_json(sidecar);
  try {
    if (record.at("file").at("size") != size) {
      throw std::runtime_error(file.string() + " is not the engine that its record names" + again);
    }
    for (auto const& part : model.files.at(stage)) {
      if (record.at("onnx").value(part.name, "") != part.sha256) {
        throw std::runtime_error(file.string() + " was built from another graph" + again);
      }
    }
    if (!record.at("plugin").is_null()) {
      throw std::runtime_error(file.string() + " needs a plugin, which this program does not load" +
                               again);
    }
    return std::make_unique<TensorRt>(file, record.at("flags").at("version_compatible"));
  } catch (nlohmann::json::exception const&) {
    throw std::runtime_error(sidecar.string() + " is no record of an engine" + again);
  }
}

}  // namespace samtrt
