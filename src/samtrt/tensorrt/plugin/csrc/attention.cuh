// Attention with decomposed relative positions (`add_decomposed_rel_pos` of the official
// modeling/image_encoder.py): what its kernels have in common.
//
// softmax(s q.k + q.Rh[qh - kh] + q.Rw[qw - kw]) v, where s = head_dim ** -0.5, as online softmax
// over blocks of keys (FlashAttention-2, Dao 2023), with no tensor of scores in memory. A block is
// one or more whole rows of the square of keys, so that
//   - the column term is the same numbers for every row of keys: it is computed once, stays in
//     registers, and is what the scores' accumulators start from;
//   - the row term is one number for each query and row of keys: it shifts the exponent.
// Both are products of the queries with the checkpoint's tables, made before the loop. Scores are
// kept without the factor s, and the terms divided by it.
//
// Layouts of registers are those of mma.m16n8k16 (tensor_core.cuh), which wgmma shares.
#pragma once

#include <cmath>

#include "online_softmax.cuh"
#include "square.cuh"

namespace samtrt {

// Products of 16 queries with 16 rows of a table, of which `row` is this lane's to address.
template <typename T, class L>
__device__ void multiply_table(float (&c)[2][4], uint32_t const (&q)[L::kSteps][4], T const* row) {
#pragma unroll
  for (int k = 0; k < L::kSteps; ++k) {
    uint32_t b[4];
    load_matrices(b, row + k * kTile);
    Math<T>::multiply(c[0], q[k], b[0], b[1]);
    Math<T>::multiply(c[1], q[k], b[2], b[3]);
  }
}

// Both terms of 16 queries, the first of which is number `start` of the square. Softmax is blind to
// what all of a query's scores have in common: with the largest taken off, float16 has its digits
// where the weight is.
template <typename T, class L>
struct Terms {
  static constexpr int kRowPitch = L::kSide + 2;

  // [16, kRowPitch] in shared memory: for each query and row of keys.
  __device__ static void rows(__half* to, uint32_t const (&q)[L::kSteps][4], T const* table,
                              int start) {
    constexpr int kParts = (L::kSide + kTile - 1) / kTile;
    int const lane = threadIdx.x % 32, row = start / L::kRow;
    float const unscale = sqrtf(static_cast<float>(L::kWidth));
    float c[kParts][2][4] = {};
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      int const key = part * kTile + lane / 16 * 8 + lane % 8;
      int const distance = max(row - key + L::kSide - 1, 0);
      multiply_table<T, L>(c[part], q, table + distance * L::kPitch + lane / 8 % 2 * 8);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float largest = -INFINITY;
#pragma unroll
      for (int i = 0; i < kParts * 4; ++i) {
        int const key = i / 2 * 8 + lane % 4 * 2 + i % 2;
        if (key < L::kSide) largest = fmaxf(largest, c[i / 4][i / 2 % 2][half * 2 + i % 2]);
      }
      largest = quad_max(largest);
      __half* const mine = to + (lane / 4 + half * 8) * kRowPitch;
#pragma unroll
      for (int i = 0; i < kParts * 4; ++i) {
        int const key = i / 2 * 8 + lane % 4 * 2 + i % 2;
        float const value = c[i / 4][i / 2 % 2][half * 2 + i % 2];
        if (key < L::kSide) mine[key] = __float2half((value - largest) * unscale);
      }
    }
  }

  // In registers, for each key of a row, as scores lie; `spread` is this warp's
  // [16, kSpread + 1].
  __device__ static void columns(__half2 (&to)[L::kColumns][2], uint32_t const (&q)[L::kSteps][4],
                                 T const* table, float* spread, int start) {
    int const lane = threadIdx.x % 32, first = start % L::kRow;
    float const unscale = sqrtf(static_cast<float>(L::kWidth));
#pragma unroll 1
    for (int part = 0; part < L::kSpread; part += kTile) {
      float c[2][4] = {};
      int const distance = first + part + lane / 16 * 8 + lane % 8;
      multiply_table<T, L>(c, q, table + distance * L::kPitch + lane / 8 % 2 * 8);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        int const row = lane / 4 + i % 4 / 2 * 8, column = part + i / 4 * 8 + lane % 4 * 2 + i % 2;
        spread[row * (L::kSpread + 1) + column] = c[i / 4][i % 4];
      }
    }
    __syncwarp();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      int const row = lane / 4 + half * 8;
      float const* const from = spread + row * (L::kSpread + 1) + row + L::kSide - 1;
      float largest = -INFINITY;
#pragma unroll
      for (int i = 0; i < L::kColumns * 2; ++i) {
        int const key = i / 2 * 8 + lane % 4 * 2 + i % 2;
        if (key < L::kSide) largest = fmaxf(largest, from[-key]);
      }
      largest = quad_max(largest);
#pragma unroll
      for (int n = 0; n < L::kColumns; ++n) {
        int const key = n * 8 + lane % 4 * 2;
        float const a = key < L::kSide ? (from[-key] - largest) * unscale : -INFINITY;
        float const b = key + 1 < L::kSide ? (from[-key - 1] - largest) * unscale : -INFINITY;
        to[n][half] = __floats2half2_rn(a, b);
      }
    }
    __syncwarp();
  }
};

// One step of online softmax, for this lane's two queries of a 16-query tile and `Tiles` tiles of 8
// keys, which are whole rows of L::kColumns tiles. Turns scores to weights; returns by how much
// earlier sums shrink.
template <class L, int Tiles>
__device__ float2 update_softmax(float (&score)[Tiles][4], float (&peak)[2], float (&total)[2],
                                 __half const* row_terms, float exponent) {
  constexpr int kRows = Tiles / L::kColumns;
  float shrink[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    __half const* const terms = row_terms + half * 8 * (L::kSide + 2);
    float term[kRows];
    float largest = peak[half];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      term[r] = __half2float(terms[r]);
      float in_row = -INFINITY;
#pragma unroll
      for (int n = r * L::kColumns; n < (r + 1) * L::kColumns; ++n) {
        in_row = fmaxf(in_row, fmaxf(score[n][2 * half], score[n][2 * half + 1]));
      }
      largest = fmaxf(largest, in_row + term[r]);
    }
    largest = quad_max(largest);
    shrink[half] = exp2_fast((peak[half] - largest) * exponent);
    peak[half] = largest;
    float sum = 0.f;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float const shift = (term[r] - largest) * exponent;
#pragma unroll
      for (int n = r * L::kColumns; n < (r + 1) * L::kColumns; ++n) {
#pragma unroll
        for (int j = 2 * half; j < 2 * half + 2; ++j) {
          score[n][j] = exp2_fast(fmaf(score[n][j], exponent, shift));
          sum += score[n][j];
        }
      }
    }
    total[half] = total[half] * shrink[half] + sum;
  }
  return make_float2(shrink[0], shrink[1]);
}

// The factor between scores as they are kept and exponents of two.
template <class L>
__device__ float score_exponent() {
  return rsqrtf(static_cast<float>(L::kWidth)) * kLog2E;
}

// Scores begin as the column term.
template <int Tiles, int Columns>
__device__ void begin_scores(float (&score)[Tiles][4], __half2 const (&term)[Columns][2]) {
#pragma unroll
  for (int n = 0; n < Tiles; ++n) {
    float2 const above = __half22float2(term[n % Columns][0]);
    float2 const below = __half22float2(term[n % Columns][1]);
    score[n][0] = above.x;
    score[n][1] = above.y;
    score[n][2] = below.x;
    score[n][3] = below.y;
  }
}

// Launch Hopper's own kernels, global and of windows; return false where they were not compiled, do
// not fit the GPU, or have no such sizes.
bool launch_hopper_attention(Type type, Problem const& problem, int batch, int head_dim, int side,
                             cudaStream_t stream, cudaError_t* error);
bool launch_hopper_window_attention(Type type, Problem const& problem, int batch, int head_dim,
                                    int side, cudaStream_t stream, cudaError_t* error);

}  // namespace samtrt
