// A linear layer and GELU: the first half of the encoder's MLPs. For Hopper see
// linear_gelu_hopper.cu; here is what runs on every GPU. A thread block has 64 rows and 128
// columns.

#include "gelu.cuh"
#include "launch.cuh"
#include "linear_gelu.cuh"
#include "tokens.cuh"

namespace samtrt {
namespace {

constexpr int kTiles = 4, kRowCount = kTiles * kRows, kColumns = 128, kStep = 64;
constexpr int kStepPitch = kStep + kPad;
constexpr int kWarpTiles = kColumns / kTokenWarps / 8;

template <typename T>
__global__ void __launch_bounds__(kTokenThreads)
    linear_gelu_kernel(T const* x, T const* weight, float const* bias, T* y, int rows, int inputs,
                       int outputs) {
  T* const part = reinterpret_cast<T*>(dynamic_shared());
  int const first = blockIdx.y * kRowCount;
  int const column = blockIdx.x * kColumns + threadIdx.x / 32 * kWarpTiles * 8;
  float c[kTiles][kWarpTiles][4] = {};
  for (int k = 0; k < inputs; k += kStep) {
    __syncthreads();  // every warp is done with the part before
    fill_rows(part, kStepPitch, kRowCount, kStep, [&](int row, int channel) {
      if (first + row >= rows) return make_uint4(0, 0, 0, 0);
      return read_vector(x + static_cast<size_t>(first + row) * inputs + k + channel);
    });
    __syncthreads();
    multiply_rows<T, kTiles, kWarpTiles, kStep>(
        c, part, kStepPitch, weight + static_cast<size_t>(column) * inputs + k, inputs);
  }
  for_pairs(c, column, [&](int row, int at, float a, float b) {
    if (first + row >= rows) return;
    write_pair(y + static_cast<size_t>(first + row) * outputs + at, gelu(a + bias[at]),
               gelu(b + bias[at + 1]));
  });
}

template <typename T>
cudaError_t launch_of(void const* x, void const* weight, float const* bias, void* y, int rows,
                      int inputs, int outputs, cudaStream_t stream) {
  dim3 const blocks(outputs / kColumns, tiles_of(rows, kRowCount));
  return launch(linear_gelu_kernel<T>, blocks, kTokenThreads, kRowCount * kStepPitch * 2, stream,
                static_cast<T const*>(x), static_cast<T const*>(weight), bias, static_cast<T*>(y),
                rows, inputs, outputs);
}

}  // namespace

bool linear_gelu_supported(int inputs, int outputs) {
  return inputs > 0 && outputs > 0 && inputs % kStep == 0 && outputs % kColumns == 0;
}

cudaError_t linear_gelu(Type type, void const* x, void const* weight, float const* bias, void* y,
                        int rows, int inputs, int outputs, cudaStream_t stream) {
  if (!linear_gelu_supported(inputs, outputs) || rows < 1) return cudaErrorInvalidValue;
  cudaError_t error;
  if (launch_hopper_linear_gelu(type, x, weight, bias, y, rows, inputs, outputs, stream, &error)) {
    return error;
  }
  auto const run = type == Type::kHalf ? launch_of<__half> : launch_of<__nv_bfloat16>;
  return run(x, weight, bias, y, rows, inputs, outputs, stream);
}

}  // namespace samtrt
