// The image cut into patches, each a token whose channels are its pixels: with a 1x1 convolution
// after it, the encoder's patch embedding.

#include <type_traits>

#include "kernels.h"
#include "launch.cuh"
#include "tensor_core.cuh"

namespace samtrt {
namespace {

constexpr int kThreads = 256;
constexpr int kColors = 3, kPatch = 16;

// The images are of T, or float32 to be rounded to it.
template <typename T, typename Given>
__global__ void __launch_bounds__(kThreads)
    patches_kernel(Given const* images, T* out, int vectors, int side) {
  int const vector = blockIdx.x * kThreads + threadIdx.x;
  if (vector >= vectors) return;
  int const row_vectors = side / kVector, grid = side / kPatch;
  int const x = vector % row_vectors * kVector, row = vector / row_vectors;
  int const y = row % side, color = row / side % kColors, batch = row / side / kColors;
  size_t const token = static_cast<size_t>(batch * grid + y / kPatch) * grid + x / kPatch;
  int const channel = (color * kPatch + y % kPatch) * kPatch + x % kPatch;
  Given const* const from = images + static_cast<size_t>(vector) * kVector;
  uint4 pixels;
  if constexpr (std::is_same_v<Given, T>) {
    pixels = *reinterpret_cast<uint4 const*>(from);
  } else {
    float values[kVector];
    *reinterpret_cast<float4*>(values) = *reinterpret_cast<float4 const*>(from);
    *reinterpret_cast<float4*>(values + 4) = *reinterpret_cast<float4 const*>(from + 4);
    pixels = pack_vector<T>(values);
  }
  *reinterpret_cast<uint4*>(out + token * (kColors * kPatch * kPatch) + channel) = pixels;
}

template <typename T, typename Given>
cudaError_t launch_of(void const* images, void* out, int vectors, int side, cudaStream_t stream) {
  return launch(patches_kernel<T, Given>, (vectors + kThreads - 1) / kThreads, kThreads, 0, stream,
                static_cast<Given const*>(images), static_cast<T*>(out), vectors, side);
}

template <typename T>
cudaError_t choose_given(bool floats, void const* images, void* out, int vectors, int side,
                         cudaStream_t stream) {
  auto const run = floats ? launch_of<T, float> : launch_of<T, T>;
  return run(images, out, vectors, side, stream);
}

}  // namespace

cudaError_t patches(Type type, void const* images, bool floats, void* out, int batch, int side,
                    cudaStream_t stream) {
  if (batch < 1 || side < kPatch || side % kPatch != 0) return cudaErrorInvalidValue;
  auto const run = type == Type::kHalf ? choose_given<__half> : choose_given<__nv_bfloat16>;
  return run(floats, images, out, batch * kColors * side * (side / kVector), side, stream);
}

}  // namespace samtrt
