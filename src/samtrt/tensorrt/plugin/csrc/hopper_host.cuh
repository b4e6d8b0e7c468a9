// What Hopper's kernels need on the host: whether the GPU is one, matrices for its copy engine.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <utility>

#include "hopper.cuh"

namespace samtrt {

// Tells whether the current GPU has compute capability 9.0.
inline bool is_hopper(cudaError_t* error) {
  int device = 0, major = 0, minor = 0;
  *error = cudaGetDevice(&device);
  for (auto const& [to, what] : {std::pair{&major, cudaDevAttrComputeCapabilityMajor},
                                 std::pair{&minor, cudaDevAttrComputeCapabilityMinor}}) {
    if (*error == cudaSuccess) *error = cudaDeviceGetAttribute(to, what, device);
  }
  return *error == cudaSuccess && major == 9 && minor == 0;
}

// Describe a tensor to the copy engine, by its sizes from the last on, in boxes of which the last
// size is 64 or 16, swizzled by as many bytes.
template <typename T, int Rank>
cudaError_t describe_tensor(CUtensorMap* tensor, void const* start, cuuint64_t const (&sizes)[Rank],
                            cuuint32_t const (&box)[Rank]) {
  static auto const encode = [] {  // of the driver, which nothing here is linked with
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found;
    auto const name = "cuTensorMapEncodeTiled";
#if CUDART_VERSION >= 12050
    cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &found);
#else  // gone from CUDA 13
    cudaGetDriverEntryPoint(name, &function, cudaEnableDefault, &found);
#endif
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  }();
  if (encode == nullptr) return cudaErrorSymbolNotFound;
  cuuint64_t strides[Rank], bytes = 2;  // the last one has no use
  cuuint32_t steps[Rank];
  for (int i = 0; i < Rank; ++i) {
    strides[i] = bytes *= sizes[i];
    steps[i] = 1;
  }
  CUresult const result = encode(
      tensor, kIsHalf<T> ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, Rank,
      const_cast<void*>(start), sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
      box[0] == 64 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_32B,
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

// Describe a [rows, channels] matrix, in boxes of `height` rows and `width` channels.
template <typename T>
cudaError_t describe_rows(CUtensorMap* matrix, void const* start, int rows, int channels, int width,
                          int height) {
  cuuint64_t const sizes[] = {static_cast<cuuint64_t>(channels), static_cast<cuuint64_t>(rows)};
  cuuint32_t const box[] = {static_cast<cuuint32_t>(width), static_cast<cuuint32_t>(height)};
  return describe_tensor<T>(matrix, start, sizes, box);
}

}  // namespace samtrt
