// How a kernel gets its dynamic shared memory and is started.
#pragma once

#include <cuda_runtime_api.h>

namespace samtrt {

#ifdef SAMTRT_EMULATED

inline unsigned char* dynamic_shared() { return emulator::shared_memory; }

template <typename... P, typename... A>
cudaError_t launch(void (*kernel)(P...), dim3 blocks, int threads, int shared_bytes, cudaStream_t,
                   A... arguments) {
  emulator::run(blocks, threads, shared_bytes, [&] { kernel(arguments...); });
  return cudaSuccess;
}

#else

__device__ inline unsigned char* dynamic_shared() {
  extern __shared__ __align__(1024) unsigned char bytes[];
  return bytes;
}

template <typename... P, typename... A>
cudaError_t launch(void (*kernel)(P...), dim3 blocks, int threads, int shared_bytes,
                   cudaStream_t stream, A... arguments) {
  if (shared_bytes > 48 * 1024) {  // as much as is had without asking
    cudaError_t const error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
    if (error != cudaSuccess) return error;
  }
  // clang-format off: it takes a header for C++
  kernel<<<blocks, threads, shared_bytes, stream>>>(arguments...);
  // clang-format on
  return cudaGetLastError();
}

#endif

}  // namespace samtrt
