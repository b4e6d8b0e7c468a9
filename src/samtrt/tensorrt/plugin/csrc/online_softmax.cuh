// Online softmax over blocks of keys (FlashAttention-2, Dao 2023), as attention's kernels have it.
//
// Layouts of registers are those of tensor_core.cuh: a lane has two queries of a tile of 16.
#pragma once

#include <cmath>

#include "tensor_core.cuh"

namespace samtrt {

// One step, for `Tiles` tiles of 8 keys: turns scores, which lack a factor that is in `exponent`,
// to weights; returns by how much earlier sums shrink.
template <int Tiles>
__device__ float2 update_softmax(float (&score)[Tiles][4], float (&peak)[2], float (&total)[2],
                                 float exponent) {
  float shrink[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float largest = peak[half];
#pragma unroll
    for (int i = 0; i < 2 * Tiles; ++i) {
      largest = fmaxf(largest, score[i / 2][half * 2 + i % 2]);
    }
    largest = quad_max(largest);
    shrink[half] = exp2_fast((peak[half] - largest) * exponent);
    peak[half] = largest;
    float sum = 0.f;
#pragma unroll
    for (int i = 0; i < 2 * Tiles; ++i) {
      float& one = score[i / 2][half * 2 + i % 2];
      one = exp2_fast((one - largest) * exponent);
      sum += one;
    }
    total[half] = total[half] * shrink[half] + sum;
  }
  return make_float2(shrink[0], shrink[1]);
}

// Earlier sums shrink by update_softmax's answer.
template <int Tiles>
__device__ void scale(float (&out)[Tiles][4], float2 shrink) {
#pragma unroll
  for (int n = 0; n < Tiles; ++n) {
    out[n][0] *= shrink.x;
    out[n][1] *= shrink.x;
    out[n][2] *= shrink.y;
    out[n][3] *= shrink.y;
  }
}

// Divide by the sum of weights and lay 16 queries' results down as [16, pitch].
template <typename T, int Tiles>
__device__ void finish(T* to, int pitch, float const (&out)[Tiles][4], float const (&total)[2]) {
  int const lane = threadIdx.x % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float const scale = 1.f / quad_sum(total[half]);
    T* const row = to + (lane / 4 + half * 8) * pitch + lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < Tiles; ++n) {
      *reinterpret_cast<uint32_t*>(row + n * 8) =
          pack<T>(out[n][2 * half] * scale, out[n][2 * half + 1] * scale);
    }
  }
}

}  // namespace samtrt
