// GELU by itself: TensorRT's convolution kernels spend more on it than this pass over memory takes.

#include "gelu.cuh"
#include "kernels.h"
#include "launch.cuh"
#include "tensor_core.cuh"

namespace samtrt {
namespace {

constexpr int kThreads = 256;

template <typename T, bool ByTanh>
__device__ uint32_t gelu_pair(uint32_t x) {
  float2 const v = unpack<T>(x);
  return ByTanh ? pack<T>(gelu_by_tanh(v.x), gelu_by_tanh(v.y)) : pack<T>(gelu(v.x), gelu(v.y));
}

template <typename T, bool ByTanh>
__global__ void __launch_bounds__(kThreads) gelu_kernel(uint4 const* x, uint4* y, int vectors) {
  int const i = blockIdx.x * kThreads + threadIdx.x;
  if (i >= vectors) return;
  uint4 const v = x[i];
  auto const pair = gelu_pair<T, ByTanh>;
  y[i] = make_uint4(pair(v.x), pair(v.y), pair(v.z), pair(v.w));
}

}  // namespace

cudaError_t gelu(Type type, bool by_tanh, void const* x, void* y, int rows, int channels,
                 cudaStream_t stream) {
  if (rows < 1 || channels < 1 || channels % kVector != 0) return cudaErrorInvalidValue;
  int const vectors = rows * (channels / kVector);
  auto const half = by_tanh ? gelu_kernel<__half, true> : gelu_kernel<__half, false>;
  auto const bfloat =
      by_tanh ? gelu_kernel<__nv_bfloat16, true> : gelu_kernel<__nv_bfloat16, false>;
  return launch(type == Type::kHalf ? half : bfloat, (vectors + kThreads - 1) / kThreads, kThreads,
                0, stream, static_cast<uint4 const*>(x), static_cast<uint4*>(y), vectors);
}

}  // namespace samtrt
