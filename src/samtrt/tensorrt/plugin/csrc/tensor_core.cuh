// What the kernels need of the tensor cores, for both 16-bit types.
//
// Layouts of registers are those of mma.m16n8k16. Of a 16 x 8 tile of results a lane has rows
// lane / 4 and lane / 4 + 8 (numbers 0, 1 and 2, 3), columns 2 (lane % 4) and the next. Of a 16 x
// 16 operand it has pairs in the same rows and columns (registers 0, 1), then 8 columns on (2, 3).
#pragma once

#include "ptx.cuh"

namespace samtrt {

constexpr int kVector = 8;  // 16-bit values of one 16-byte access
constexpr float kLog2E = 1.4426950408889634f;

template <typename T>
struct Math;

template <>
struct Math<__half> {
  using Pair = __half2;

  static __device__ Pair pair(float a, float b) { return __floats2half2_rn(a, b); }
  static __device__ float2 floats(Pair x) { return __half22float2(x); }
  static __device__ Pair add(Pair a, Pair b) { return __hadd2(a, b); }

  // c += a @ b for a [16, 16], b [16, 8], c [16, 8].
  static __device__ void multiply(float (&c)[4], uint32_t const (&a)[4], uint32_t b0, uint32_t b1) {
    multiply_tiles<__half>(c, a, b0, b1);
  }
};

template <>
struct Math<__nv_bfloat16> {
  using Pair = __nv_bfloat162;

  static __device__ Pair pair(float a, float b) { return __floats2bfloat162_rn(a, b); }
  static __device__ float2 floats(Pair x) { return __bfloat1622float2(x); }
  static __device__ Pair add(Pair a, Pair b) { return __hadd2(a, b); }

  static __device__ void multiply(float (&c)[4], uint32_t const (&a)[4], uint32_t b0, uint32_t b1) {
    multiply_tiles<__nv_bfloat16>(c, a, b0, b1);
  }
};

// Two floats as the 32 bits that tensor cores and 16-byte stores take.
template <typename T>
__device__ inline uint32_t pack(float a, float b) {
  typename Math<T>::Pair const both = Math<T>::pair(a, b);
  return *reinterpret_cast<uint32_t const*>(&both);
}

template <typename T>
__device__ inline float2 unpack(uint32_t both) {
  return Math<T>::floats(*reinterpret_cast<typename Math<T>::Pair const*>(&both));
}

template <typename T>
__device__ inline void unpack(float (&values)[kVector], uint4 const& packed) {
  uint32_t const pairs[] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
  for (int i = 0; i < kVector / 2; ++i) {
    float2 const both = unpack<T>(pairs[i]);
    values[2 * i] = both.x;
    values[2 * i + 1] = both.y;
  }
}

template <typename T>
__device__ inline uint4 pack_vector(float const* v) {
  return make_uint4(pack<T>(v[0], v[1]), pack<T>(v[2], v[3]), pack<T>(v[4], v[5]),
                    pack<T>(v[6], v[7]));
}

template <typename T>
__device__ inline uint32_t add_pairs(uint32_t a, uint32_t b) {
  using Pair = typename Math<T>::Pair;
  Pair const sum =
      Math<T>::add(*reinterpret_cast<Pair const*>(&a), *reinterpret_cast<Pair const*>(&b));
  return *reinterpret_cast<uint32_t const*>(&sum);
}

// Over the four lanes that share two rows of a tile.
__device__ inline float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

__device__ inline float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

// A 16 x 16 operand of two neighbouring tiles of results, such as scores become weights.
template <typename T>
__device__ void pack_weights(uint32_t (&weights)[4], float const (&left)[4],
                             float const (&right)[4]) {
  weights[0] = pack<T>(left[0], left[1]);
  weights[1] = pack<T>(left[2], left[3]);
  weights[2] = pack<T>(right[0], right[1]);
  weights[3] = pack<T>(right[2], right[3]);
}

}  // namespace samtrt
