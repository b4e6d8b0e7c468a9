// A stage of a model, whatever runs it. Each program has one of engine_*.cpp.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model.h"

namespace samtrt {

struct Tensor {
  std::vector<int64_t> shape;
  std::vector<float> values;  // in C order
};
using Tensors = std::map<std::string, Tensor>;

class Engine {
 public:
  virtual ~Engine() = default;
  // Takes every input by name, and gives every output. Throws where the runtime fails.
  virtual Tensors run(Tensors const& inputs) = 0;
};

// Opens "encoder" or "decoder". Throws where it is not there, or cannot run here.
std::unique_ptr<Engine> open_engine(Model const& model, std::string const& stage);

}  // namespace samtrt
