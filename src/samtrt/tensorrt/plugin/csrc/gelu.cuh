// The activation of the encoder's MLPs, of the decoder's upscaling and of masks' embedding.
#pragma once

#include "tensor_core.cuh"

namespace samtrt {

// x / 2 (1 + erf(x / sqrt 2)), erf by Abramowitz and Stegun 7.1.26: 1.5e-7 off at most.
__device__ inline float gelu(float x) {
  float const z = fabsf(x) * 0.7071067811865476f;
  float const t = reciprocal_fast(fmaf(0.3275911f, z, 1.f));
  float const p =
      fmaf(fmaf(fmaf(fmaf(1.061405429f, t, -1.453152027f), t, 1.421413741f), t, -0.284496736f), t,
           0.254829592f);
  float const tail = p * t * exp2_fast(-z * z * kLog2E);  // 1 - erf(z)
  return x > 0.f ? x - 0.5f * x * tail : 0.5f * x * tail;
}

// x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), as x times a sigmoid.
__device__ inline float gelu_by_tanh(float x) {
  float const u = 0.7978845608028654f * fmaf(0.044715f * x * x, x, x);
  return x * reciprocal_fast(1.f + exp2_fast(-2.f * kLog2E * u));
}

}  // namespace samtrt
