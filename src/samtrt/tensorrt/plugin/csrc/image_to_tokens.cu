// The image attends to a prompt's tokens, which are few: scores of all heads, their softmax, the
// weighted values, the residual sum and its layer norm, in one pass over the image.
//
// One warp does all of this for 16 cells, which it reads and writes once. Keys and values lie in
// shared memory, each head's tokens filled up to whole tiles of 8. Tokens beyond the prompt's have
// a score of minus infinity.

#include <cmath>

#include "decoder.cuh"
#include "kernels.h"
#include "launch.cuh"

namespace samtrt {
namespace {

struct Problem {
  void const* image;     // [prompts, cells, kWidth]
  void const* image_pe;  // [cells, kWidth]
  void const* keys;      // [prompts, kHeads * tokens, kWidth]
  void const* offsets;   // [prompts, kHeads * tokens]
  void const* values;    // [prompts, kHeads * tokens, kWidth]
  float const* weight;   // [kWidth]
  float const* bias;     // [kWidth]
  void* out;             // [prompts, cells, kWidth]
  int tokens;
  int cells;
  float epsilon;
};

// `Tiles` tiles of 8 tokens for each head.
template <int Tiles>
struct Shape {
  static constexpr int kColumns = kHeads * Tiles * 8;
  // Both keys and values fit into shared memory, or take turns.
  static constexpr bool kTogether = Tiles <= 2;
  static constexpr int kBytes = (kTogether ? 2 : 1) * kColumns * kPitch * 2;
};

// Turn 16 rows of scores to weights, each head's by its softmax.
template <int Tiles>
__device__ void softmax_by_head(float (&score)[kHeads * Tiles][4]) {
#pragma unroll
  for (int head = 0; head < kHeads; ++head) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float largest = -INFINITY;
#pragma unroll
      for (int i = 0; i < 2 * Tiles; ++i) {
        largest = fmaxf(largest, score[head * Tiles + i / 2][2 * half + i % 2]);
      }
      largest = quad_max(largest);
      float sum = 0.f;
#pragma unroll
      for (int i = 0; i < 2 * Tiles; ++i) {
        float& x = score[head * Tiles + i / 2][2 * half + i % 2];
        x = exp2_fast((x - largest) * kLog2E);
        sum += x;
      }
      float const scale = reciprocal_fast(quad_sum(sum));
#pragma unroll
      for (int i = 0; i < 2 * Tiles; ++i) score[head * Tiles + i / 2][2 * half + i % 2] *= scale;
    }
  }
}

// Layer norm of 16 rows, in place.
template <typename T>
__device__ void normalise(uint32_t (&x)[kSteps][4], float const* weight, float const* bias,
                          float epsilon) {
  float mean[2], scale[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float sum = 0.f, squares = 0.f;
#pragma unroll
    for (int i = 0; i < 2 * kSteps; ++i) {
      float2 const v = unpack<T>(x[i / 2][i % 2 * 2 + half]);
      sum += v.x + v.y;
    }
    mean[half] = quad_sum(sum) / kWidth;
#pragma unroll
    for (int i = 0; i < 2 * kSteps; ++i) {
      float2 const v = unpack<T>(x[i / 2][i % 2 * 2 + half]);
      squares += (v.x - mean[half]) * (v.x - mean[half]) + (v.y - mean[half]) * (v.y - mean[half]);
    }
    scale[half] = rsqrtf(quad_sum(squares) / kWidth + epsilon);
  }
#pragma unroll
  for (int k = 0; k < kSteps; ++k) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      int const column = pair_column(k, i);
      float2 const w = *reinterpret_cast<float2 const*>(weight + column);
      float2 const b = *reinterpret_cast<float2 const*>(bias + column);
      float2 const v = unpack<T>(x[k][i]);
      x[k][i] = pack<T>((v.x - mean[i % 2]) * scale[i % 2] * w.x + b.x,
                        (v.y - mean[i % 2]) * scale[i % 2] * w.y + b.y);
    }
  }
}

template <typename T, int Tiles>
__global__ void __launch_bounds__(kThreads) image_to_tokens_kernel(Problem const problem) {
  using S = Shape<Tiles>;
  T* const keys = reinterpret_cast<T*>(dynamic_shared());
  T* const values = keys + (S::kTogether ? S::kColumns * kPitch : 0);
  int const prompt = blockIdx.y, tokens = problem.tokens, first = prompt * kHeads * tokens;
  auto const fetch = [&](T* to, void const* from) {
    fetch_rows(to, static_cast<T const*>(from), S::kColumns, [&](int row) {
      int const token = row % (Tiles * 8);
      return token < tokens ? first + row / (Tiles * 8) * tokens + token : -1;
    });
    commit_copies();
  };
  auto const arrive = [] {
    wait_for_copies<0>();
    __syncthreads();
  };
  if (S::kTogether) {
    fetch(keys, problem.keys);
    fetch(values, problem.values);
    arrive();
  }

  T const* const offsets = static_cast<T const*>(problem.offsets) + first;
  int const groups = problem.cells / (kWarps * kRows);
  for (int group = blockIdx.x; group < groups; group += gridDim.x) {
    int const cell = (group * kWarps + threadIdx.x / 32) * kRows;
    size_t const at = (static_cast<size_t>(prompt) * problem.cells + cell) * kWidth;
    if (!S::kTogether) {
      __syncthreads();  // every warp is done with the values
      fetch(keys, problem.keys);
    }
    uint32_t x[kSteps][4];
    load_rows(x, static_cast<T const*>(problem.image) + at);
    if (!S::kTogether) arrive();

    float score[kHeads * Tiles][4];
#pragma unroll
    for (int n = 0; n < kHeads * Tiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        int const token = n % Tiles * 8 + threadIdx.x % 4 * 2 + i % 2;
        score[n][i] = token < tokens ? float(offsets[n / Tiles * tokens + token]) : -INFINITY;
      }
    }
    T const* const pe = static_cast<T const*>(problem.image_pe) + cell * kWidth;
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      uint32_t q[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        T const* const from = pe + pair_row(i) * kWidth + pair_column(k, i);
        q[i] = add_pairs<T>(x[k][i], *reinterpret_cast<uint32_t const*>(from));
      }
#pragma unroll
      for (int n = 0; n < S::kColumns / 16; ++n) {
        uint32_t b[4];
        load_matrices(b, keys + (n * 16 + b_row()) * kPitch + k * 16 + b_column());
        Math<T>::multiply(score[2 * n], q, b[0], b[1]);
        Math<T>::multiply(score[2 * n + 1], q, b[2], b[3]);
      }
    }
    softmax_by_head<Tiles>(score);
    uint32_t weights[S::kColumns / 16][4];
#pragma unroll
    for (int n = 0; n < S::kColumns / 16; ++n) {
      pack_weights<T>(weights[n], score[2 * n], score[2 * n + 1]);
    }
    if (!S::kTogether) {
      __syncthreads();  // every warp is done with the keys
      fetch(values, problem.values);
      arrive();
    }

    // Half of the channels at a time, for fewer registers.
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum[kSteps][4] = {};
#pragma unroll
      for (int k = 0; k < S::kColumns / 16; ++k) {
#pragma unroll
        for (int n = 0; n < kSteps / 2; ++n) {
          uint32_t b[4];
          int const column = (half * kSteps / 2 + n) * 16 + a_column();
          load_matrices_transposed(b, values + (k * 16 + a_row()) * kPitch + column);
          Math<T>::multiply(sum[2 * n], weights[k], b[0], b[1]);
          Math<T>::multiply(sum[2 * n + 1], weights[k], b[2], b[3]);
        }
      }
#pragma unroll
      for (int n = 0; n < kSteps / 2; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          uint32_t& to = x[half * kSteps / 2 + n][i];
          float const* const added = &sum[2 * n + i / 2][i % 2 * 2];
          float2 const v = unpack<T>(to);
          to = pack<T>(v.x + added[0], v.y + added[1]);
        }
      }
    }
    normalise<T>(x, problem.weight, problem.bias, problem.epsilon);
    T* const out = static_cast<T*>(problem.out) + at;
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        *reinterpret_cast<uint32_t*>(out + pair_row(i) * kWidth + pair_column(k, i)) = x[k][i];
      }
    }
  }
}

template <typename T, int Tiles>
cudaError_t launch_of(Problem const& problem, int prompts, cudaStream_t stream) {
  int const groups = problem.cells / (kWarps * kRows);
  // At most one wave: a few thread blocks more would run alone after the others.
  dim3 const blocks(min(groups, max(1, kSlots / prompts)), prompts);
  return launch(image_to_tokens_kernel<T, Tiles>, blocks, kThreads, Shape<Tiles>::kBytes, stream,
                problem);
}

template <typename T>
cudaError_t choose_tiles(Problem const& problem, int prompts, cudaStream_t stream) {
  switch ((problem.tokens + 7) / 8) {
    case 1:
      return launch_of<T, 1>(problem, prompts, stream);
    case 2:
      return launch_of<T, 2>(problem, prompts, stream);
    case 3:
      return launch_of<T, 3>(problem, prompts, stream);
    case 4:
      return launch_of<T, 4>(problem, prompts, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

cudaError_t image_to_tokens(Type type, void const* image, void const* image_pe, void const* keys,
                            void const* offsets, void const* values, float const* weight,
                            float const* bias, void* out, int prompts, int tokens, int cells,
                            float epsilon, cudaStream_t stream) {
  if (prompts < 1 || tokens < 1 || cells < 1 || cells % (kWarps * kRows) != 0) {
    return cudaErrorInvalidValue;
  }
  Problem const problem{image, image_pe, keys,   offsets, values, weight,
                        bias,  out,      tokens, cells,   epsilon};
  auto const run = type == Type::kHalf ? choose_tiles<__half> : choose_tiles<__nv_bfloat16>;
  return run(problem, prompts, stream);
}

}  // namespace samtrt
