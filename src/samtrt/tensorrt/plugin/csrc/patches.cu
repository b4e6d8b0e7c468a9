// The image cut into patches, each a token whose channels are its pixels: with a 1x1 convolution
// after it, the encoder's patch embedding.

#include "kernels.h"
#include "launch.cuh"
#include "tensor_core.cuh"

namespace samtrt {
namespace {

constexpr int kThreads = 256;
constexpr int kColors = 3, kPatch = 16;

template <typename T>
__global__ void __launch_bounds__(kThreads)
    patches_kernel(T const* images, T* out, int vectors, int side) {
  int const vector = blockIdx.x * kThreads + threadIdx.x;
  if (vector >= vectors) return;
  int const row_vectors = side / kVector, grid = side / kPatch;
  int const x = vector % row_vectors * kVector, row = vector / row_vectors;
  int const y = row % side, color = row / side % kColors, batch = row / side / kColors;
  size_t const token = static_cast<size_t>(batch * grid + y / kPatch) * grid + x / kPatch;
  int const channel = (color * kPatch + y % kPatch) * kPatch + x % kPatch;
  *reinterpret_cast<uint4*>(out + token * (kColors * kPatch * kPatch) + channel) =
      *reinterpret_cast<uint4 const*>(images + static_cast<size_t>(vector) * kVector);
}

template <typename T>
cudaError_t launch_of(void const* images, void* out, int vectors, int side, cudaStream_t stream) {
  return launch(patches_kernel<T>, (vectors + kThreads - 1) / kThreads, kThreads, 0, stream,
                static_cast<T const*>(images), static_cast<T*>(out), vectors, side);
}

}  // namespace

cudaError_t patches(Type type, void const* images, void* out, int batch, int side,
                    cudaStream_t stream) {
  if (batch < 1 || side < kPatch || side % kPatch != 0) return cudaErrorInvalidValue;
  auto const run = type == Type::kHalf ? launch_of<__half> : launch_of<__nv_bfloat16>;
  return run(images, out, batch * kColors * side * (side / kVector), side, stream);
}

}  // namespace samtrt
