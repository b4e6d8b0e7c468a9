// CUDA's bfloat16 type, of what our kernels use of it.
#pragma once

#include <cstring>

#include "emulator.h"

struct __nv_bfloat16 {
  uint16_t bits;
  __nv_bfloat16() = default;
  explicit __nv_bfloat16(float x) {
    uint32_t whole;
    std::memcpy(&whole, &x, 4);
    // To nearest, ties to even; what is not a number stays so.
    bits =
        std::isnan(x) ? 0x7fff : static_cast<uint16_t>((whole + 0x7fff + (whole >> 16 & 1)) >> 16);
  }
  operator float() const {
    uint32_t const whole = static_cast<uint32_t>(bits) << 16;
    float x;
    std::memcpy(&x, &whole, 4);
    return x;
  }
};

struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};

inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
  return {__nv_bfloat16(x), __nv_bfloat16(y)};
}
inline float2 __bfloat1622float2(__nv_bfloat162 v) { return {v.x, v.y}; }
inline __nv_bfloat162 __hadd2(__nv_bfloat162 a, __nv_bfloat162 b) {
  return {__nv_bfloat16(float(a.x) + float(b.x)), __nv_bfloat16(float(a.y) + float(b.y))};
}
