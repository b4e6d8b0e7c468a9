// What Hopper's window attention does without tensor cores: where things lie in shared memory, how
// queries are cut to tiles, and the relative positions' part of queries and keys.
#pragma once

#include "attention.cuh"
#include "hopper_host.cuh"
#include "hopper_products.cuh"

namespace samtrt::hopper_window {

constexpr int kSide = 14;
constexpr int kKeys = kSide * kSide;
constexpr int kQueries = 4 * kSide;  // of a tile at most, of whose 64 rows they are the first
constexpr int kScored = (kKeys + 7) / 8 * 8;     // in both blocks' scores
constexpr int kSummed = (kKeys + 15) / 16 * 16;  // in sums over keys, which take 16 a time
constexpr int kGroups = 2;
constexpr int kThreads = kGroups * 128;

// Columns that make queries and keys longer: terms of rows, the mask of what is no key, terms of
// columns. Float16 in both types, like the terms of the other kernels.
constexpr int kMaskColumn = 14, kColumnTerms = 16;
constexpr float kMasked = -60000.f;  // the exponent of two is far below that of the least float
constexpr int kTermPitch = 2 * kSide + 2;  // of a query's terms in shared memory

// Rows of both tables, one after the other, from a multiple of 16 on.
constexpr int kDistances = 2 * kSide - 1, kTable = 32;

// Where things lie in shared memory, in bytes. Channels 0..63 are tiles of 128-byte rows, channels
// 64..79 tiles of 32-byte rows.
template <int D>
struct Shape {
  static constexpr bool kHasRest = D > 64;
  static constexpr int kRest = kHasRest ? 32 : 0;
  static constexpr int kVectors = D / kVector;  // of a token

  static constexpr int kKeysAt = 0;
  static constexpr int kValuesAt = kKeysAt + kScored * 128;
  static constexpr int kQueriesAt = kValuesAt + kSummed * 128;
  static constexpr int kTablesAt = kQueriesAt + kGroups * kQueries * 128;
  static constexpr int kPlacesAt = kTablesAt + 2 * kTable * 128;
  static constexpr int kKeysRestAt = kPlacesAt + kScored * 64;
  static constexpr int kValuesRestAt = kKeysRestAt + kScored * kRest;
  static constexpr int kQueriesRestAt = kValuesRestAt + kSummed * kRest;
  static constexpr int kTablesRestAt = kQueriesRestAt + kGroups * kQueries * kRest;
  static constexpr int kTermsAt =
      kTablesRestAt + (kTable + kDistances + 1) * kRest;  // not to its end
  static constexpr int kBarriersAt = kTermsAt + kThreads / 32 * kTile * kTermPitch * 2;
  static constexpr int kBytes = kBarriersAt + (2 + kGroups) * 8;

  static_assert(D == 64 || D == 80);
  // Products begin at a multiple of eight rows, and read past a tile's queries.
  static_assert(kValuesAt % 1024 == 0 && kQueriesAt % 1024 == 0 && kQueries * 128 % 1024 == 0);
  static_assert(kTablesAt % 1024 == 0 && kPlacesAt % 512 == 0 && kKeysRestAt % 256 == 0);
  static_assert(kBytes <= 228 * 1024 / 2 - 1024, "two thread blocks of a multiprocessor");
};

// One tile of tokens or of a table: its parts of 64 and of 16 channels.
struct Tile {
  unsigned char *main, *rest;

  template <typename V>
  __device__ void write(int row, int channel, V const& values) const {
    unsigned char* const to = channel < 64 ? main + swizzled<Swizzle::k128>(row, channel * 2)
                                           : rest + swizzled<Swizzle::k32>(row, (channel - 64) * 2);
    *reinterpret_cast<V*>(to) = values;
  }
};

// How the queries of a window are cut to tiles: so many whole rows of its columns inside the grid.
struct Cut {
  int columns, rows;
  int reciprocal;  // 1 / columns in 65536ths, rounded up: exact for numbers in a tile

  static Cut of(int columns) {
    return {columns, kQueries / columns < kSide ? kQueries / columns : kSide,
            (65536 + columns - 1) / columns};
  }
  __device__ int row_of(int query) const { return query * reciprocal >> 16; }
};

// Of boxes: of whole windows, and of tiles of queries in whole windows and in those at the right
// edge.
struct Maps {
  CUtensorMap window, window_rest, rows, rows_rest, edge, edge_rest;
  Cut cut, edge_cut;
};

template <typename T, int D>
__device__ void write_tables(Tile const& to, Problem const& problem) {
  constexpr int kQuads = D / 4;
  for (int i = threadIdx.x; i < 2 * kDistances * kQuads; i += kThreads) {
    int const number = i / kQuads, channel = i % kQuads * 4;
    bool const is_row = number < kDistances;
    int const distance = is_row ? number : number - kDistances;
    float4 const v = *reinterpret_cast<float4 const*>(
        (is_row ? problem.rel_pos_h : problem.rel_pos_w) + distance * D + channel);
    to.write(distance + (is_row ? 0 : kTable), channel,
             make_uint2(pack<T>(v.x, v.y), pack<T>(v.z, v.w)));
  }
}

// What keys are longer by.
__device__ inline void write_places(unsigned char* to) {
  int const key = threadIdx.x;
  if (key >= kScored) return;
  int const row = key < kKeys ? key / kSide : kMaskColumn;
  int const column = key < kKeys ? kColumnTerms + key % kSide : kMaskColumn;
  auto const pair = [&](int first) {  // float16 of this column and the next
    uint32_t const one = 0x3c00;
    uint32_t const low = row == first || column == first ? one : 0;
    return low | (row == first + 1 || column == first + 1 ? one << 16 : 0);
  };
#pragma unroll
  for (int i = 0; i < 32; i += kVector) {
    *reinterpret_cast<uint4*>(to + swizzled<Swizzle::k64>(key, i * 2)) =
        make_uint4(pair(i), pair(i + 2), pair(i + 4), pair(i + 6));
  }
}

// The terms of 16 queries, of which `start` is the first one's number in a tile that begins at row
// `top` of the window, from their products with both tables: [16, kTermPitch] in shared memory,
// without what all of a query's have in common (see Terms in attention.cuh).
__device__ inline void write_terms(__half* to, float const (&c)[8][4], Cut const& cut, int top,
                                   int start, float unscale) {
  int const lane = threadIdx.x % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    int const row = lane / 4 + half * 8, query_row = cut.row_of(start + row);
#pragma unroll
    for (int part = 0; part < 2; ++part) {
      int const place = part == 0 ? top + query_row : start + row - query_row * cut.columns;
      int const last = place + kSide - 1 - lane % 4 * 2;  // the key of this lane's first distance
      float largest = -INFINITY;
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        unsigned const key = last - (i / 2 * 8 + i % 2);
        if (key < kSide) largest = fmaxf(largest, c[part * 4 + i / 2][half * 2 + i % 2]);
      }
      largest = quad_max(largest);
      __half* const mine = to + row * kTermPitch + part * kSide + last;
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        int const distance = i / 2 * 8 + i % 2;
        if (static_cast<unsigned>(last - distance) < kSide) {
          float const term = (c[part * 4 + i / 2][half * 2 + i % 2] - largest) * unscale;
          // Infinity times the zeros of other keys would be no number.
          mine[-distance] = __float2half(fmaxf(term, kMasked));
        }
      }
    }
  }
}

// The same as two operands of the product.
__device__ inline void read_terms(uint32_t (&a)[2][4], __half const* from) {
  int const lane = threadIdx.x % 32;
  __half2 const mask = __floats2half2_rn(kMasked, 0.f);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    int const part = i / 4, row = lane / 4 + i % 2 * 8, column = lane % 4 * 2 + i % 4 / 2 * 8;
    uint32_t const rest = part == 0 ? *reinterpret_cast<uint32_t const*>(&mask) : 0u;
    uint32_t const pair =
        *reinterpret_cast<uint32_t const*>(from + row * kTermPitch + part * kSide + column);
    a[part][i % 4] = column == kMaskColumn ? rest : pair;
  }
}

// Write a query's results, of which four neighbouring lanes have a pair in each tile of 8 channels:
// after an exchange each has four channels of one tile.
template <typename T, int Tiles>
__device__ void write_results(T* to, bool is_there, float const (&out)[Tiles][4], int half,
                              float scale) {
  int const lane = threadIdx.x % 32;
  bool const odd = lane % 2 != 0;
#pragma unroll
  for (int n = 0; n < Tiles; n += 2) {
    uint32_t const even_tile = pack<T>(out[n][2 * half] * scale, out[n][2 * half + 1] * scale);
    uint32_t const odd_tile =
        pack<T>(out[n + 1][2 * half] * scale, out[n + 1][2 * half + 1] * scale);
    uint32_t const other = __shfl_xor_sync(0xffffffffu, odd ? even_tile : odd_tile, 1);
    if (is_there) {
      T* const place = to + (n + lane % 2) * 8 + lane % 4 / 2 * 4;
      *reinterpret_cast<uint2*>(place) =
          odd ? make_uint2(other, odd_tile) : make_uint2(even_tile, other);
    }
  }
}

}  // namespace samtrt::hopper_window
