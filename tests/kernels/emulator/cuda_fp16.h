// CUDA's half precision type, of what our kernels use of it.
#pragma once

#include "emulator.h"

struct __half {
  _Float16 value;
  __half() = default;
  explicit __half(float x) : value(static_cast<_Float16>(x)) {}
  operator float() const { return static_cast<float>(value); }
};

struct alignas(4) __half2 {
  __half x, y;
};

inline __half __float2half(float x) { return __half(x); }
inline float __half2float(__half x) { return x; }
inline __half2 __floats2half2_rn(float x, float y) { return {__half(x), __half(y)}; }
inline float2 __half22float2(__half2 v) { return {v.x, v.y}; }
inline __half2 __hadd2(__half2 a, __half2 b) {
  return {__half(float(a.x) + float(b.x)), __half(float(a.y) + float(b.y))};
}
