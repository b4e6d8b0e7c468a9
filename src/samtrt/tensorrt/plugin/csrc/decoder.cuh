// What the mask decoder's kernels have in common. Its sizes are the same in every checkpoint.
//
// The image is one row of kWidth channels for each cell of the embedding. A warp takes 16 cells at
// a time and keeps them in registers, as the operand that the tensor cores take and, register by
// register, as the results lie that are added to them.
#pragma once

#include "tensor_core.cuh"

namespace samtrt {

constexpr int kWidth = 256;  // channels of a cell and of a token
constexpr int kHeads = 8;
constexpr int kRows = 16;           // of a tile, which one warp works on
constexpr int kPitch = kWidth + 8;  // of rows in shared memory: no two begin in one bank
constexpr int kSteps = kWidth / 16;
constexpr int kWarps = 4;  // of a thread block
constexpr int kThreads = kWarps * 32;

// About how many thread blocks large GPUs work on at once: two for each of 132 multiprocessors.
constexpr int kSlots = 264;

// Where in a row of channels a lane's pairs of an operand or of results lie: of step k, register i.
__device__ inline int pair_column(int k, int i) { return k * 16 + i / 2 * 8 + threadIdx.x % 4 * 2; }
__device__ inline int pair_row(int i) { return threadIdx.x % 32 / 4 + i % 2 * 8; }

// 16 rows from memory.
template <typename T>
__device__ void load_rows(uint32_t (&x)[kSteps][4], T const* rows) {
#pragma unroll
  for (int k = 0; k < kSteps; ++k) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      x[k][i] = *reinterpret_cast<uint32_t const*>(rows + pair_row(i) * kWidth + pair_column(k, i));
    }
  }
}

// c += x @ b' for 16 columns of the result, whose rows of b, of `pitch`, lie in shared memory.
// This lane addresses one row of 8 values: see b_row and b_column.
__device__ inline int b_row() { return threadIdx.x % 32 / 16 * 8 + threadIdx.x % 8; }
__device__ inline int b_column() { return threadIdx.x / 8 % 2 * 8; }

// The same of a b that is not transposed, and of the left operand.
__device__ inline int a_row() { return threadIdx.x % 16; }
__device__ inline int a_column() { return threadIdx.x % 32 / 16 * 8; }

// `count` rows of kWidth from `from` to shared memory, by the whole thread block; asynchronous.
// `source` maps a row to the one it is copied from, negative for one of zeros.
template <typename T, typename Source>
__device__ void fetch_rows(T* to, T const* from, int count, Source const& source) {
  constexpr int kVectors = kWidth / kVector;
  for (int i = threadIdx.x; i < count * kVectors; i += kThreads) {
    int const row = i / kVectors, channel = i % kVectors * kVector, number = source(row);
    T* const target = to + row * kPitch + channel;
    if (number >= 0) {
      copy_async(target, from + static_cast<size_t>(number) * kWidth + channel);
    } else {
      *reinterpret_cast<uint4*>(target) = make_uint4(0, 0, 0, 0);
    }
  }
}

}  // namespace samtrt
