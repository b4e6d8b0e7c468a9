// Layer norm over channels that lie last in memory, with the addition before it where there is one.
//
// A transformer block reads and writes its residual stream only here: x + delta is written once and
// normalised while it is in registers. Sums and moments are float32 (the variance overflows float16
// in the larger models). One warp takes one token.

#include "kernels.h"
#include "launch.cuh"
#include "tensor_core.cuh"

namespace samtrt {
namespace {

constexpr int kWarps = 8;  // tokens of one thread block
constexpr int kWarpSpan = 32 * kVector;
constexpr int kMostVectors = 5;  // of each lane: ViT-H's 1280 channels

__device__ float warp_sum(float x) {
  for (int lane = 16; lane > 0; lane /= 2) x += __shfl_xor_sync(0xffffffffu, x, lane);
  return x;
}

__device__ void read_floats(float (&to)[kVector], float const* from) {
  *reinterpret_cast<float4*>(to) = *reinterpret_cast<float4 const*>(from);
  *reinterpret_cast<float4*>(to + 4) = *reinterpret_cast<float4 const*>(from + 4);
}

// `Vectors` 16-byte vectors of a token lie in each lane: up to 256 * Vectors channels.
template <typename T, int Vectors>
__global__ void __launch_bounds__(kWarps * 32)
    layer_norm_kernel(T const* x, T const* delta, Places const places, float const* weight,
                      float const* bias, T* sum, T* y, int rows, int channels, float epsilon) {
  int const row = blockIdx.x * kWarps + threadIdx.x / 32;
  if (row >= rows) return;  // a whole warp
  int const first = (threadIdx.x % 32) * kVector;
  size_t const start = static_cast<size_t>(row) * channels;

  float values[Vectors][kVector];
  float total = 0.f;
#pragma unroll
  for (int i = 0; i < Vectors; ++i) {
    int const channel = first + i * kWarpSpan;
    if (channel >= channels) continue;
    unpack<T>(values[i], *reinterpret_cast<uint4 const*>(x + start + channel));
    if (delta != nullptr) {
      float added[kVector];
      unpack<T>(added, *reinterpret_cast<uint4 const*>(delta + start + channel));
#pragma unroll
      for (int j = 0; j < kVector; ++j) values[i][j] += added[j];
    }
    if (places.added != nullptr) {
      size_t const place = static_cast<size_t>(row % places.rows) * channels + channel;
      float added[kVector];
      read_floats(added, places.added + place);
#pragma unroll
      for (int j = 0; j < kVector; ++j) values[i][j] += added[j];
    }
    if (sum != nullptr) {
      *reinterpret_cast<uint4*>(sum + start + channel) = pack_vector<T>(values[i]);
    }
#pragma unroll
    for (int j = 0; j < kVector; ++j) total += values[i][j];
  }
  float const mean = warp_sum(total) / channels;
  float squares = 0.f;
#pragma unroll
  for (int i = 0; i < Vectors; ++i) {
    if (first + i * kWarpSpan >= channels) continue;
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      values[i][j] -= mean;
      squares += values[i][j] * values[i][j];
    }
  }
  float const scale = rsqrtf(warp_sum(squares) / channels + epsilon);
#pragma unroll
  for (int i = 0; i < Vectors; ++i) {
    int const channel = first + i * kWarpSpan;
    if (channel >= channels) continue;
    float w[kVector], b[kVector];
    read_floats(w, weight + channel);
    read_floats(b, bias + channel);
#pragma unroll
    for (int j = 0; j < kVector; ++j) values[i][j] = values[i][j] * scale * w[j] + b[j];
    *reinterpret_cast<uint4*>(y + start + channel) = pack_vector<T>(values[i]);
  }
}

template <typename T>
cudaError_t run_layer_norm(void const* x, void const* delta, Places const& places,
                           float const* weight, float const* bias, void* sum, void* y, int rows,
                           int channels, float epsilon, cudaStream_t stream) {
  auto const run = [&](auto kernel) {
    return launch(kernel, (rows + kWarps - 1) / kWarps, kWarps * 32, 0, stream,
                  static_cast<T const*>(x), static_cast<T const*>(delta), places, weight, bias,
                  static_cast<T*>(sum), static_cast<T*>(y), rows, channels, epsilon);
  };
  switch ((channels + kWarpSpan - 1) / kWarpSpan) {
    case 1:
      return run(layer_norm_kernel<T, 1>);
    case 2:
      return run(layer_norm_kernel<T, 2>);
    case 3:
      return run(layer_norm_kernel<T, 3>);
    case 4:
      return run(layer_norm_kernel<T, 4>);
    case 5:
      return run(layer_norm_kernel<T, 5>);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

bool layer_norm_supported(int channels) {
  return channels > 0 && channels % kVector == 0 && channels <= kMostVectors * kWarpSpan;
}

cudaError_t layer_norm(Type type, void const* x, void const* delta, Places const& places,
                       float const* weight, float const* bias, void* sum, void* y, int rows,
                       int channels, float epsilon, cudaStream_t stream) {
  bool const has_rows = places.added == nullptr || places.rows > 0;
  if (!layer_norm_supported(channels) || rows < 1 || !has_rows) return cudaErrorInvalidValue;
  auto const run = type == Type::kHalf ? run_layer_norm<__half> : run_layer_norm<__nv_bfloat16>;
  return run(x, delta, places, weight, bias, sum, y, rows, channels, epsilon, stream);
}

}  // namespace samtrt
