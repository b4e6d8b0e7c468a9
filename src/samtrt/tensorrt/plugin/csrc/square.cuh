// Where the tokens of one square lie, a grid or a window of it, and how they get to a thread block.
//
// A window's row of 14 keys lies in shared memory as 16, the last two masked. Window tokens outside
// the grid are the bias of `qkv`, as in the official code, where they are zero vectors before it;
// they are never in memory.
#pragma once

#include "kernels.h"
#include "tensor_core.cuh"

namespace samtrt {

constexpr int kTile = 16;

struct Problem {
  void const* qkv;         // [batch, grid, grid, 3, heads, D]
  float const* qkv_bias;   // [3, heads, D]
  float const* rel_pos_h;  // [2 Side - 1, D]
  float const* rel_pos_w;  // [2 Side - 1, D]
  void* out;               // [batch, grid, grid, heads, D]
  int grid;
  int heads;
  int windows;  // along each side of the grid; 1 where attention is global
};

// The square of tokens that attend to one another, and what a thread block has of its queries:
// `Warps` warps with `Tiles` tiles of 16 each.
template <int D, int Side, int Warps, int Tiles>
struct Layout {
  static constexpr int kSide = Side, kWidth = D, kTiles = Tiles, kWarps = Warps;
  static constexpr int kRow = Side < kTile ? kTile : Side;  // of keys, with the masked ones
  static constexpr int kThreads = Warps * 32;
  static constexpr int kQueries = Warps * Tiles * kTile;
  static constexpr int kSquare = Side * kRow;
  static constexpr int kChunks = (kSquare + kQueries - 1) / kQueries;  // thread blocks
  static constexpr int kSteps = D / kTile;
  static constexpr int kColumns = kRow / 8;  // tiles of 8 keys in a row

  static constexpr int kPitch = D + kVector;    // one vector more: no two rows begin in one bank
  static constexpr int kTable = 2 * kRow;       // rows, of which 2 Side - 1 are used
  static constexpr int kSpread = kRow + kTile;  // distances between 16 queries and a row of keys
  static constexpr int kRowTermBytes = (kQueries * (Side + 2) * 2 + 1023) / 1024 * 1024;
  static constexpr int kPrologueBytes = 2 * kTable * kPitch * 2 + Warps * kTile * (kSpread + 1) * 4;

  static_assert(D % kTile == 0 && kRow % kTile == 0);
};

// Where one square of tokens lies; indices count the tokens of its rows, masked ones too.
template <typename T, class L>
struct Square {
  Problem const& problem;
  int batch, head, top, left;

  __device__ explicit Square(Problem const& p) : problem(p) {
    int const count = p.windows * p.windows, window = blockIdx.z % count;
    batch = blockIdx.z / count;
    head = blockIdx.y;
    top = window / p.windows * L::kSide;
    left = window % p.windows * L::kSide;
  }

  // A window by its row and column among all of a grid.
  __device__ Square(Problem const& p, int batch, int head, int row, int column)
      : problem(p), batch(batch), head(head), top(row * L::kSide), left(column * L::kSide) {}

  __device__ static bool is_masked(int index) {
    return index % L::kRow >= L::kSide || index >= L::kSquare;
  }

  // The token's number in the batch's grids, negative outside its grid.
  __device__ int token(int index) const { return token_of(index / L::kRow, index % L::kRow); }
  __device__ int token_of(int row, int column) const {
    int const y = top + row, x = left + column;
    if (y >= problem.grid || x >= problem.grid) return -1;
    return (batch * problem.grid + y) * problem.grid + x;
  }

  // Values of q, k or v (part 0, 1, 2) of a token in the grid, from `channel` on.
  __device__ T const* values(int part, int number, int channel) const {
    size_t const vector = (static_cast<size_t>(number) * 3 + part) * problem.heads + head;
    return static_cast<T const*>(problem.qkv) + vector * L::kWidth + channel;
  }

  // 8 of the same for every token outside the grid.
  __device__ uint4 padding(int part, int channel) const {
    float const* b = problem.qkv_bias + (part * problem.heads + head) * L::kWidth + channel;
    return pack_vector<T>(b);
  }

  // The operand of 16 queries, from memory to registers; queries without a token are zero.
  __device__ void load_queries(uint32_t (&q)[L::kSteps][4], int start) const {
    int const lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      int const index = start + lane / 4 + i % 2 * 8, number = token(index);
      T const* const from = values(0, max(number, 0), lane % 4 * 2 + i / 2 * 8);
      bool const there = number >= 0 && !is_masked(index);
#pragma unroll
      for (int k = 0; k < L::kSteps; ++k) {
        q[k][i] = there ? *reinterpret_cast<uint32_t const*>(from + k * kTile) : 0u;
      }
    }
  }

  // Write 16 queries' results, [16, pitch] in this warp's shared memory.
  __device__ void store(T const* results, int pitch, int start) const {
    constexpr int kVectors = L::kWidth / kVector;
    T* const out = static_cast<T*>(problem.out);
    for (int i = threadIdx.x % 32; i < kTile * kVectors; i += 32) {
      int const row = i / kVectors, channel = i % kVectors * kVector;
      int const number = token(start + row);
      if (number < 0 || is_masked(start + row)) continue;
      size_t const vector = static_cast<size_t>(number) * problem.heads + head;
      *reinterpret_cast<uint4*>(out + vector * L::kWidth + channel) =
          *reinterpret_cast<uint4 const*>(results + row * pitch + channel);
    }
  }
};

// Brings keys and values to shared memory, 16 tokens of one row by one warp at a time, to rows of
// kPitch. What does not depend on the row is worked out once.
template <typename T, class L>
class Loader {
 public:
  __device__ explicit Loader(Square<T, L> const& square) : square_(square) {
#pragma unroll
    for (int i = 0; i < L::kSteps; ++i) {
      int const vector = threadIdx.x % 32 + i * 32;
      column_[i] = vector / kVectors;
      channel_[i] = vector % kVectors * kVector;
    }
  }

  // Tokens 16 unit to 16 unit + 15 of the square.
  __device__ void load(T* to, int part, int unit) const {
    int const y = square_.top + unit * kTile / L::kRow;
    int const x = square_.left + unit * kTile % L::kRow;
    int const grid = square_.problem.grid, stride = 3 * square_.problem.heads * L::kWidth;
    T const* const from = square_.values(part, (square_.batch * grid + y) * grid + x, 0);
#pragma unroll
    for (int i = 0; i < L::kSteps; ++i) {
      T* const target = to + column_[i] * L::kPitch + channel_[i];
      bool const masked = L::kRow != L::kSide && column_[i] >= L::kSide;
      if (L::kRow == L::kSide || (!masked && y < grid && x + column_[i] < grid)) {
        copy_async(target, from + column_[i] * stride + channel_[i]);
      } else {
        // A masked value has weight zero, and zero times what memory happened to hold may be NaN.
        uint4 const zero = make_uint4(0, 0, 0, 0);
        *reinterpret_cast<uint4*>(target) = masked ? zero : square_.padding(part, channel_[i]);
      }
    }
  }

 private:
  static constexpr int kVectors = L::kWidth / kVector;  // of a token
  Square<T, L> const& square_;
  int column_[L::kSteps], channel_[L::kSteps];
};

template <typename T, class L>
__device__ void load_table(T* to, float const* table) {
  for (int i = threadIdx.x; i < L::kTable * (L::kWidth / 4); i += L::kThreads) {
    int const row = i / (L::kWidth / 4), channel = i % (L::kWidth / 4) * 4;
    float4 v = make_float4(0.f, 0.f, 0.f, 0.f);
    if (row < 2 * L::kSide - 1) {
      v = *reinterpret_cast<float4 const*>(table + row * L::kWidth + channel);
    }
    *reinterpret_cast<uint2*>(to + row * L::kPitch + channel) =
        make_uint2(pack<T>(v.x, v.y), pack<T>(v.z, v.w));
  }
}

}  // namespace samtrt
