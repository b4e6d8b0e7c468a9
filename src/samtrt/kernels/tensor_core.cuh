// What the kernels need of the tensor cores and of asynchronous copies, for both 16-bit types.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace samtrt {

__device__ inline uint32_t shared_address(void const* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// 16 bytes from global to shared memory; both addresses are multiples of 16.
__device__ inline void copy_async(void* shared, void const* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n" ::"r"(shared_address(shared)),
               "l"(global));
}

__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;\n" ::); }

// Wait until at most `Pending` of this thread's groups of copies are on their way.
template <int Pending>
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(Pending));
}

// Four 8x8 matrices of 16-bit values; lanes 8i..8i+7 give the addresses of the rows of matrix i.
__device__ inline void load_matrices(uint32_t (&r)[4], void const* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row)));
}

__device__ inline void load_matrices_transposed(uint32_t (&r)[4], void const* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row)));
}

__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}

template <typename T>
struct Math;

template <>
struct Math<__half> {
  using Pair = __half2;

  static __device__ Pair pair(float a, float b) { return __floats2half2_rn(a, b); }
  static __device__ float2 floats(Pair x) { return __half22float2(x); }

  // c += a @ b for a [16, 16], b [16, 8], c [16, 8].
  static __device__ void multiply(float (&c)[4], uint32_t const (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, "
        "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
};

template <>
struct Math<__nv_bfloat16> {
  using Pair = __nv_bfloat162;

  static __device__ Pair pair(float a, float b) { return __floats2bfloat162_rn(a, b); }
  static __device__ float2 floats(Pair x) { return __bfloat1622float2(x); }

  static __device__ void multiply(float (&c)[4], uint32_t const (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
        "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
};

// Two floats as the 32 bits that tensor cores and 16-byte stores take.
template <typename T>
__device__ inline uint32_t pack(float a, float b) {
  typename Math<T>::Pair const both = Math<T>::pair(a, b);
  return *reinterpret_cast<uint32_t const*>(&both);
}

}  // namespace samtrt
