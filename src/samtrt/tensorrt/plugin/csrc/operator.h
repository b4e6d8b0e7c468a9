// What an operator of the graphs is, apart from any TensorRT: its name, inputs, outputs,
// attributes, and how it is run. Files in operators/ have one each, as a struct of
//
//   kName, kInputs, kOutputs
//   kKinds      of the inputs, then of the outputs
//   Attributes  members of 4 bytes, the operator's whole state, which engine files keep
//   kFields     their names, in order
//   valid(Attributes const&)
//   output(Attributes const&, int)           the shape of an output
//   supported(Attributes const&, Tensor const&)  of the first input, whose sizes are -1 where they
//                                            vary
//   workspace(Tensor const*)                 bytes, of the largest inputs
//   run(Attributes const&, Tensor const*, inputs, outputs, workspace, stream)
//
// of which plugin_v2.h and plugin_v3.h make plugins.
#pragma once

#include <cstdint>

#include "kernels.h"

namespace samtrt {

// How an input or output lies in memory.
enum class Kind {
  kGrid,    // half precision, [B, C, G, G] with channels last
  kRows,    // half precision, as the graph has it
  kPixels,  // the same, or float32 in a weakly typed network
  kFloats,  // float32, as the graph has it
};

// An input as it comes; `type` is of one in half precision, and kHalf for float32.
struct Tensor {
  int rank;
  int sizes[8];
  Type type;
  bool is_float;

  int operator[](int axis) const { return sizes[axis]; }
};

// An attribute: an int32 or a float.
struct Field {
  char const* name;
  bool is_float;
};

// One size of an output: that of an input's axis, divided and multiplied, or `constant` where that
// is not 0.
struct Extent {
  int input, axis, divisor, factor, constant;
};

inline Extent size_of(int input, int axis, int divisor = 1, int factor = 1) {
  return {input, axis, divisor, factor, 0};
}

inline Extent always(int size) { return {0, 0, 1, 1, size}; }

// The shape of an output; of rank 0, that of the first input.
struct Shape {
  int rank;
  Extent extents[4];
};

inline float const* floats(void const* input) { return static_cast<float const*>(input); }

// What most operators are: no attributes, outputs like the first input, no workspace.
struct Operator {
  struct Attributes {};

  static constexpr int kFieldCount = 0;
  static constexpr Field const* kFields = nullptr;

  static bool valid(Attributes const&) { return true; }

  template <typename A>
  static Shape output(A const&, int) {
    return {};
  }

  static size_t workspace(Tensor const*) { return 0; }
};

}  // namespace samtrt
