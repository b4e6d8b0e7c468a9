// What Hopper's window attention does with tensor cores: a group's queries times both tables, times
// the keys of a block, and the weights of these times their values.
#pragma once

#include "window_attention.cuh"

namespace samtrt::hopper_window {

// Products of 64 queries with the rows of both tables.
template <typename T, int D>
__device__ inline void multiply_tables(float (&c)[8][4], Tile const& queries, Tile const& tables) {
  begin_products();
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    uint64_t const left = describe<Swizzle::k128>(queries.main + k * 32);
    uint64_t const right = describe<Swizzle::k128>(tables.main + k * 32);
    if (k == 0) {
      multiply_shared_async<T, 0>(c, left, right);
    } else {
      multiply_shared_async<T, 1>(c, left, right);
    }
  }
  if constexpr (D > 64) {
    multiply_shared_async<T, 1>(c, describe<Swizzle::k32>(queries.rest),
                                describe<Swizzle::k32>(tables.rest));
  }
  end_products();
  wait_for_products<0>();
}

// One step of online softmax: turns this lane's scores of two queries to weights, adds them to
// `total`, and returns by how much earlier sums shrink.
template <int Tiles>
__device__ inline float2 update_softmax(float (&score)[Tiles][4], float (&peak)[2],
                                        float (&total)[2], float exponent) {
  float shrink[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float largest[2] = {peak[half], -INFINITY};
#pragma unroll
    for (int n = 0; n < Tiles; ++n) {
      largest[n % 2] = fmaxf(largest[n % 2], fmaxf(score[n][2 * half], score[n][2 * half + 1]));
    }
    float const now = quad_max(fmaxf(largest[0], largest[1]));
    shrink[half] = exp2_fast((peak[half] - now) * exponent);
    peak[half] = now;
    float const shift = -now * exponent;
    float sum[2] = {0.f, 0.f};
#pragma unroll
    for (int n = 0; n < Tiles; ++n) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        score[n][2 * half + j] = exp2_fast(fmaf(score[n][2 * half + j], exponent, shift));
        sum[j] += score[n][2 * half + j];
      }
    }
    total[half] = total[half] * shrink[half] + sum[0] + sum[1];
  }
  return make_float2(shrink[0], shrink[1]);
}

// Weights as operands, of 16 keys each; zero where there are no scores.
template <int Keys>
using Weights = uint32_t[(Keys + 15) / 16][4];

template <typename T, int Tiles>
__device__ inline void pack_weights(Weights<8 * Tiles>& weights, float const (&score)[Tiles][4]) {
#pragma unroll
  for (int n = 0; n < (Tiles + 1) / 2 * 2; ++n) {
    weights[n / 2][n % 2 * 2] = n < Tiles ? pack<T>(score[n][0], score[n][1]) : 0;
    weights[n / 2][n % 2 * 2 + 1] = n < Tiles ? pack<T>(score[n][2], score[n][3]) : 0;
  }
}

// Scores of 64 queries with the keys of `Tiles` tiles of 8 from `first` on, begun.
template <typename T, int D, int Tiles>
__device__ inline void begin_scores(float (&score)[Tiles][4], Tile const& queries, Tile const& keys,
                                    uint32_t const (&terms)[2][4], unsigned char const* places,
                                    int first) {
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    uint64_t const left = describe<Swizzle::k128>(queries.main + k * 32);
    uint64_t const right = describe<Swizzle::k128>(keys.main + first * 128 + k * 32);
    if (k == 0) {
      multiply_shared_async<T, 0>(score, left, right);
    } else {
      multiply_shared_async<T, 1>(score, left, right);
    }
  }
  if constexpr (D > 64) {
    multiply_shared_async<T, 1>(score, describe<Swizzle::k32>(queries.rest),
                                describe<Swizzle::k32>(keys.rest + first * 32));
  }
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    multiply_half_async(score, terms[k], describe<Swizzle::k64>(places + first * 64 + k * 32));
  }
}

// Sums of values by weights, begun, from key `first` on.
template <typename T, int D, int Steps>
__device__ inline void begin_sums(float (&out)[8][4], float (&rest)[2][4],
                                  uint32_t const (*weights)[4], Tile const& values, int first) {
#pragma unroll
  for (int k = 0; k < Steps; ++k) {
    int const key = first + k * kTile;
    multiply_async<T, true>(out, weights[k], describe<Swizzle::k128>(values.main + key * 128));
    if constexpr (D > 64) {
      multiply_async<T>(rest, weights[k], describe<Swizzle::k32>(values.rest + key * 32));
    }
  }
}

// What a warp has of its 16 queries' sums over keys.
template <int D>
struct Sums {
  float out[8][4] = {}, rest[2][4] = {};  // channels 0..63, 64..79
  float peak[2] = {-INFINITY, -INFINITY}, total[2] = {0.f, 0.f};
};

// What a thread block has in shared memory of its window.
struct Window {
  Tile queries, keys, values;
  unsigned char const* places;
  __half const* terms;
  uint64_t* full;  // of keys, of values
};

// Scores of `Keys` keys from `First` on, and their weights; the sums shrink to fit. Meanwhile, if
// there are `before`, sums of values by those. Calls `has_read` when it is done with queries and
// keys.
template <typename T, int D, int First, int Keys, int Before, class F>
__device__ inline void weigh(Sums<D>& sums, Weights<Keys>& weights, uint32_t (*before)[4],
                             Window const& window, bool is_idle, F const& has_read) {
  constexpr float kExponent = kLog2E * (D == 64 ? 0.125f : 0.11180339887f);
  float score[Keys / 8][4];
  uint32_t terms[2][4];
  read_terms(terms, window.terms);
  if (First == 0) wait_for_phase(&window.full[0], 0);
  begin_products();
  begin_scores<T, D>(score, window.queries, window.keys, terms, window.places, First);
  end_products();
  if constexpr (Before > 0) {
    begin_sums<T, D, Before / kTile>(sums.out, sums.rest, before, window.values, First - Before);
    end_products();
  }
  wait_for_products<(Before > 0)>();
  has_read();
  float2 shrink = make_float2(1.f, 1.f);
  if (!is_idle) shrink = update_softmax(score, sums.peak, sums.total, kExponent);
  pack_weights<T>(weights, score);
  if constexpr (Before > 0) wait_for_products<0>();
  if constexpr (First > 0) {
    scale(sums.out, shrink);
    if constexpr (D > 64) scale(sums.rest, shrink);
  }
}

// The last keys' part of the sums.
template <typename T, int D, int First, int Keys>
__device__ inline void add_last(Sums<D>& sums, Weights<Keys> const& weights, Window const& window) {
  begin_products();
  begin_sums<T, D, (Keys + 15) / 16>(sums.out, sums.rest, weights, window.values, First);
  end_products();
  wait_for_products<0>();
}

}  // namespace samtrt::hopper_window
