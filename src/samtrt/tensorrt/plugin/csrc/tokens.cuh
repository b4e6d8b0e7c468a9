// What the kernels of the mask decoder's token work have in common: a few tokens of kWidth channels
// for each prompt, and many weights, each of which is needed once.
//
// Tokens of all prompts are rows, [prompts, tokens, kWidth]. A thread block has 16 of them (or
// twice as many) in shared memory, and its warps share out the columns of the results. Weights go
// from memory to the tensor cores' operands with nothing between: a lane reads 8 values of a row
// where the instruction has it take 2 and 2 of two steps, and the rows in shared memory are read
// in the same order, so that the sums are the same.
#pragma once

#include "decoder.cuh"
#include "kernels.h"
#include "launch.cuh"

namespace samtrt {

constexpr int kTokenWarps = 8;
constexpr int kTokenThreads = kTokenWarps * 32;
constexpr int kInner = kWidth / 2;           // of attention between tokens and image
constexpr int kHeadInner = kInner / kHeads;  // of one of its heads
constexpr int kMostTokens = 32;              // of a prompt
constexpr int kPad = 32;                     // of rows in shared memory: eight lanes' reads of 16
constexpr int kTokenPitch = kWidth + kPad;   // bytes lie in different banks
constexpr int kTilesOfWarp = kWidth / kTokenWarps / 8;  // a warp's share of kWidth columns

// c += a @ w' of 16 M rows in shared memory and 8 N rows of w, `stride` apart, in global memory.
template <typename T, int M, int N, int K>
__device__ void multiply_rows(float (&c)[M][N][4], T const* a, int pitch, T const* w, int stride) {
  constexpr int kStep = 4 * kVector;          // columns that four lanes read
  constexpr int kMost = N < 16 ? 16 / N : 1;  // steps whose reads are under way at once
  constexpr int kBatch = K / kStep < kMost ? K / kStep : kMost;
  static_assert(K % (kStep * kBatch) == 0, "whole batches");
  int const row = threadIdx.x % 32 / 4, column = threadIdx.x % 4 * kVector;
  w += static_cast<size_t>(row) * stride + column;
  a += row * pitch + column;
#pragma unroll
  for (int begin = 0; begin < K; begin += kStep * kBatch) {
    uint4 b[kBatch][N];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
#pragma unroll
      for (int n = 0; n < N; ++n) {
        b[i][n] = read_once(w + static_cast<size_t>(n) * 8 * stride + begin + i * kStep);
      }
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
#pragma unroll
      for (int m = 0; m < M; ++m) {
        T const* const from = a + m * kRows * pitch + begin + i * kStep;
        uint4 const upper = *reinterpret_cast<uint4 const*>(from);
        uint4 const lower = *reinterpret_cast<uint4 const*>(from + 8 * pitch);
        uint32_t const first[] = {upper.x, lower.x, upper.y, lower.y};
        uint32_t const second[] = {upper.z, lower.z, upper.w, lower.w};
#pragma unroll
        for (int n = 0; n < N; ++n) {
          Math<T>::multiply(c[m][n], first, b[i][n].x, b[i][n].y);
          Math<T>::multiply(c[m][n], second, b[i][n].z, b[i][n].w);
        }
      }
    }
  }
}

// The same of 16 rows of kHeadInner channels, and of w, one after the other.
template <typename T, int N>
__device__ void multiply_head(float (&c)[N][4], T const* a, T const* w) {
  int const row = threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 4;
  a += row * kHeadInner + column;
  uint2 const upper = *reinterpret_cast<uint2 const*>(a);
  uint2 const lower = *reinterpret_cast<uint2 const*>(a + 8 * kHeadInner);
  uint32_t const both[] = {upper.x, lower.x, upper.y, lower.y};
#pragma unroll
  for (int n = 0; n < N; ++n) {
    uint2 const b = *reinterpret_cast<uint2 const*>(w + (n * 8 + row) * kHeadInner + column);
    Math<T>::multiply(c[n], both, b.x, b.y);
  }
}

// Calls use(row, column, two results that lie side by side) for each pair that this lane has of
// 16 M rows and 8 N columns, the first of which is `first`.
template <int M, int N, typename Use>
__device__ void for_pairs(float (&c)[M][N][4], int first, Use const& use) {
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int n = 0; n < N; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        use(m * kRows + half * 8 + static_cast<int>(threadIdx.x % 32 / 4),
            first + n * 8 + static_cast<int>(threadIdx.x % 4 * 2), c[m][n][2 * half],
            c[m][n][2 * half + 1]);
      }
    }
  }
}

// Fills rows of `width` channels in shared memory by what read(row, channel) gives of 8.
template <typename Read, typename T>
__device__ void fill_rows(T* to, int pitch, int rows, int width, Read const& read) {
  int const vectors = width / kVector;
  for (int i = threadIdx.x; i < rows * vectors; i += kTokenThreads) {
    int const row = i / vectors, channel = i % vectors * kVector;
    *reinterpret_cast<uint4*>(to + row * pitch + channel) = read(row, channel);
  }
}

template <typename T>
__device__ inline uint4 read_vector(T const* from) {
  return *reinterpret_cast<uint4 const*>(from);
}

template <typename T>
__device__ inline uint4 add_vectors(uint4 const& a, uint4 const& b) {
  return make_uint4(add_pairs<T>(a.x, b.x), add_pairs<T>(a.y, b.y), add_pairs<T>(a.z, b.z),
                    add_pairs<T>(a.w, b.w));
}

template <typename T>
__device__ inline void write_pair(T* to, float a, float b) {
  *reinterpret_cast<uint32_t*>(to) = pack<T>(a, b);
}

// Layer norm of 16 M rows of kWidth channels, in place: each warp has its share of the columns of
// all of them. `sums` is shared memory for 2 * 16 M * kTokenWarps floats.
template <int M>
__device__ void normalise_rows(float (&c)[M][kTilesOfWarp][4], float* sums, float const* weight,
                               float const* bias, float epsilon) {
  int const warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  auto const total_of = [&](float* shared, int number) {
    float total = 0.f;
#pragma unroll
    for (int i = 0; i < kTokenWarps; ++i) total += shared[number * kTokenWarps + i];
    return total;
  };
#pragma unroll
  for (int pass = 0; pass < 2; ++pass) {
    float* const shared = sums + pass * M * kRows * kTokenWarps;
#pragma unroll
    for (int i = 0; i < 2 * M; ++i) {
      float sum = 0.f;
#pragma unroll
      for (int n = 0; n < 2 * kTilesOfWarp; ++n) {
        float const x = c[i / 2][n / 2][i % 2 * 2 + n % 2];
        sum += pass == 0 ? x : x * x;
      }
      sum = quad_sum(sum);
      if (lane % 4 == 0) shared[(i * 8 + lane / 4) * kTokenWarps + warp] = sum;
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 2 * M; ++i) {
      float const mean = total_of(shared, i * 8 + lane / 4) / kWidth;
      float const scale = pass == 0 ? 1.f : rsqrtf(mean + epsilon);
#pragma unroll
      for (int n = 0; n < 2 * kTilesOfWarp; ++n) {
        float& x = c[i / 2][n / 2][i % 2 * 2 + n % 2];
        x = pass == 0 ? x - mean : x * scale;
      }
    }
  }
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int n = 0; n < kTilesOfWarp; ++n) {
      int const column = (warp * kTilesOfWarp + n) * 8 + lane % 4 * 2;
      float2 const w = *reinterpret_cast<float2 const*>(weight + column);
      float2 const b = *reinterpret_cast<float2 const*>(bias + column);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        c[m][n][2 * half] = c[m][n][2 * half] * w.x + b.x;
        c[m][n][2 * half + 1] = c[m][n][2 * half + 1] * w.y + b.y;
      }
    }
  }
}

// One head's projection of 16 rows of kWidth channels: [kRows, kHeadInner] in shared memory, `to`.
// Each warp sums over its share of the channels; `parts` is shared memory for their results,
// kTokenWarps * kRows * kHeadInner floats. Begins and ends with the thread block together.
template <typename T>
__device__ void project_head(T* to, float* parts, T const* rows, T const* weight,
                             float const* bias) {
  constexpr int kShare = kWidth / kTokenWarps, kSize = kRows * kHeadInner;
  static_assert(kSize == kTokenThreads, "a thread for each result");
  int const warp = threadIdx.x / 32;
  float c[1][kHeadInner / 8][4] = {};
  __syncthreads();
  multiply_rows<T, 1, kHeadInner / 8, kShare>(c, rows + warp * kShare, kTokenPitch,
                                              weight + warp * kShare, kWidth);
  for_pairs(c, 0, [&](int row, int column, float a, float b) {
    *reinterpret_cast<float2*>(parts + warp * kSize + row * kHeadInner + column) =
        make_float2(a, b);
  });
  __syncthreads();
  float sum = bias[threadIdx.x % kHeadInner];
#pragma unroll
  for (int i = 0; i < kTokenWarps; ++i) sum += parts[i * kSize + threadIdx.x];
  to[threadIdx.x] = T(sum);
  __syncthreads();
}

constexpr int kHeadBytes = kTokenWarps * kRows * kHeadInner * 4;  // of project_head's parts

// Shared memory of a thread block that has 16 rows of tokens and one head.
template <typename T>
struct HeadMemory {
  static constexpr int kBytes = kRows * kTokenPitch * 2 + kRows * kHeadInner * 2 + kHeadBytes;

  T* const rows;       // [kRows, kTokenPitch]
  T* const head;       // [kRows, kHeadInner], what project_head makes of them
  float* const parts;  // project_head's

  __device__ HeadMemory()
      : rows(reinterpret_cast<T*>(dynamic_shared())),
        head(rows + kRows * kTokenPitch),
        parts(reinterpret_cast<float*>(head + kRows * kHeadInner)) {}
};

// From [.., kHeadInner] of one head to [.., kWidth]: this warp's share of the columns.
template <typename T>
__device__ void expand_head(float (&c)[1][kTilesOfWarp][4], T const* head, T const* weight) {
  int const first = threadIdx.x / 32 * kTilesOfWarp * 8;
  multiply_head<T, kTilesOfWarp>(c[0], head, weight + first * kHeadInner);
}

inline int tiles_of(int rows, int size = kRows) { return (rows + size - 1) / size; }

// out = mixed . value + bias, each head's channels by its part of `value`: what attention to the
// image gives, before its output layer. The first step of token_mlp and of token_heads.
//
// mixed   [prompts, 8 * tokens, 256]
// value   [128, 256]
// out     [prompts, tokens, 128]
cudaError_t attend_values(Type type, void const* mixed, void const* value, float const* bias,
                          void* out, int prompts, int tokens, cudaStream_t stream);

}  // namespace samtrt
