// Products by wgmma whose first operand is in shared memory, and those of relative positions in
// windows: 64 rows with 56, 64, 80 or 128.
#pragma once

#include "hopper.cuh"

#ifndef SAMTRT_EMULATED

namespace samtrt {

// With both factors in shared memory.
#define SAMTRT_WGMMA_SHARED(COLUMNS, TYPE, TILES, REST) \
  SAMTRT_WGMMA(COLUMNS, TYPE, TILES, REST ", 1, 1, 0, 0", "l"(a), "l"(b), "n"(Add))

// c = a @ b' or, to `Add`, c += a @ b' for a [64, 16] and b [64, 16] as `describe` says.
template <typename T, int Add>
__device__ inline void multiply_shared_async(float (&c)[8][4], uint64_t a, uint64_t b) {
  if constexpr (kIsHalf<T>) {
    SAMTRT_WGMMA_SHARED("64", "f16", 8, "%32, %33, %34");
  } else {
    SAMTRT_WGMMA_SHARED("64", "bf16", 8, "%32, %33, %34");
  }
}

// The same for b [80, 16].
template <typename T, int Add>
__device__ inline void multiply_shared_async(float (&c)[10][4], uint64_t a, uint64_t b) {
  if constexpr (kIsHalf<T>) {
    SAMTRT_WGMMA_SHARED("80", "f16", 10, "%40, %41, %42");
  } else {
    SAMTRT_WGMMA_SHARED("80", "bf16", 10, "%40, %41, %42");
  }
}

// The same for b [56, 16].
template <typename T, int Add>
__device__ inline void multiply_shared_async(float (&c)[7][4], uint64_t a, uint64_t b) {
  if constexpr (kIsHalf<T>) {
    SAMTRT_WGMMA_SHARED("56", "f16", 7, "%28, %29, %30");
  } else {
    SAMTRT_WGMMA_SHARED("56", "bf16", 7, "%28, %29, %30");
  }
}

// The same for b [128, 16].
template <typename T, int Add>
__device__ inline void multiply_shared_async(float (&c)[16][4], uint64_t a, uint64_t b) {
  if constexpr (kIsHalf<T>) {
    SAMTRT_WGMMA_SHARED("128", "f16", 16, "%64, %65, %66");
  } else {
    SAMTRT_WGMMA_SHARED("128", "bf16", 16, "%64, %65, %66");
  }
}

// c += a @ b' for a [64, 16] in the registers of four warps, b [64, 16] as `describe` says, both of
// float16.
__device__ inline void multiply_half_async(float (&c)[8][4], uint32_t const (&a)[4], uint64_t b) {
  SAMTRT_WGMMA_OF("64", "f16", 8, "{%32, %33, %34, %35}, %36, 1, 1, 1, 0");
}

// The same for b [80, 16].
__device__ inline void multiply_half_async(float (&c)[10][4], uint32_t const (&a)[4], uint64_t b) {
  SAMTRT_WGMMA_OF("80", "f16", 10, "{%40, %41, %42, %43}, %44, 1, 1, 1, 0");
}

// The same for b [56, 16].
__device__ inline void multiply_half_async(float (&c)[7][4], uint32_t const (&a)[4], uint64_t b) {
  SAMTRT_WGMMA_OF("56", "f16", 7, "{%28, %29, %30, %31}, %32, 1, 1, 1, 0");
}

#undef SAMTRT_WGMMA_SHARED

}  // namespace samtrt

#endif
