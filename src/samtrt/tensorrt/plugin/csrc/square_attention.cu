// Attention within the squares of a grid of tokens, as Hiera's blocks have it: no positions, and
// queries that may be pooled 2 x 2 (`MultiScaleAttention` of the official
// modeling/backbones/hieradet.py).
//
// Online softmax over blocks of keys (FlashAttention-2, Dao 2023). A thread block has 64 queries of
// one square and head, a warp 16 of them. Heads are 56, 72 or 96 channels wide, and take tensor
// cores in steps of 16: what is missing is zero in shared memory.

#include <cmath>

#include "kernels.h"
#include "launch.cuh"
#include "online_softmax.cuh"

namespace samtrt {
namespace {

constexpr int kTile = 16, kWarps = 4, kThreads = kWarps * 32;
constexpr int kQueries = kWarps * kTile, kKeys = 64;  // of a thread block, of a block

struct Problem {
  void const* qkv;        // [batch, grid, grid, 3, heads, D]
  float const* qkv_bias;  // [3, heads, D]
  void* out;              // [batch, grid / stride, grid / stride, heads, D]
  int grid, heads;
  int side;     // of a square, in tokens
  int squares;  // along each side of the grid
  int stride;   // 2 where queries are pooled, else 1
  int chunks;   // thread blocks of a square
};

template <int D>
struct Shape {
  static constexpr int kWidth = (D + kTile - 1) / kTile * kTile, kSteps = kWidth / kTile;
  static constexpr int kPitch = kWidth + kVector;  // one vector more: no two rows begin in one bank
  static constexpr int kVectors = D / kVector;     // of a token
  static constexpr int kBlock = kKeys * kPitch;    // of keys, or of values

  // Queries, which results take the place of, then keys and values of a block or of two.
  static constexpr int bytes(int stages) { return (kQueries * kPitch + 2 * stages * kBlock) * 2; }

  static_assert(D % kVector == 0 && kPitch / kVector % 2 == 1);
};

// Where one square lies.
template <typename T, int D>
struct Square {
  using S = Shape<D>;
  Problem const& problem;
  int batch, head, top, left, first_query;

  __device__ explicit Square(Problem const& p) : problem(p), head(blockIdx.y) {
    int const number = blockIdx.x / p.chunks, square = number % (p.squares * p.squares);
    batch = number / (p.squares * p.squares);
    top = square / p.squares * p.side;
    left = square % p.squares * p.side;
    first_query = blockIdx.x % p.chunks * kQueries;
  }

  __device__ int tokens() const { return problem.side * problem.side; }
  __device__ int queries() const { return tokens() / (problem.stride * problem.stride); }

  __device__ bool is_in_grid(int y, int x) const { return y < problem.grid && x < problem.grid; }

  // 8 channels of q, k or v (part 0, 1, 2) of a token in the grid.
  __device__ uint4 const* values(int part, int y, int x, int vector) const {
    size_t const token = (static_cast<size_t>(batch) * problem.grid + y) * problem.grid + x;
    size_t const row = (token * 3 + part) * problem.heads + head;
    return reinterpret_cast<uint4 const*>(static_cast<T const*>(problem.qkv) + row * D) + vector;
  }

  // The same of every token outside the grid.
  __device__ uint4 padding(int part, int vector) const {
    return pack_vector<T>(problem.qkv_bias + (part * problem.heads + head) * D + vector * kVector);
  }

  // Begin to load a block of keys (part 1) or values (part 2).
  __device__ void load_block(T* to, int part, int block) const {
    for (int i = threadIdx.x; i < kKeys * S::kVectors; i += kThreads) {
      int const row = i / S::kVectors, vector = i % S::kVectors, token = block * kKeys + row;
      T* const target = to + row * S::kPitch + vector * kVector;
      int const y = top + token / problem.side, x = left + token % problem.side;
      if (token < tokens() && is_in_grid(y, x)) {
        copy_async(target, values(part, y, x, vector));
      } else {
        // What is no key has weight zero, and zero times what memory happened to hold may be NaN.
        *reinterpret_cast<uint4*>(target) =
            token < tokens() ? padding(part, vector) : make_uint4(0, 0, 0, 0);
      }
    }
  }

  // A query's token, the first of those that are pooled; false where it has none in the grid.
  __device__ bool query(int number, int* y, int* x) const {
    int const side = problem.side / problem.stride;
    *y = top + number / side * problem.stride;
    *x = left + number % side * problem.stride;
    return number < queries() && is_in_grid(*y, *x);
  }

  __device__ void load_queries(T* to) const {
    for (int i = threadIdx.x; i < kQueries * S::kVectors; i += kThreads) {
      int const row = i / S::kVectors, vector = i % S::kVectors;
      int y, x;
      uint4 q = make_uint4(0, 0, 0, 0);
      if (query(first_query + row, &y, &x)) {
        q = *values(0, y, x, vector);
        if (problem.stride > 1) {
          q = largest(q, *values(0, y, x + 1, vector));
          q = largest(q, *values(0, y + 1, x, vector));
          q = largest(q, *values(0, y + 1, x + 1, vector));
        }
      }
      *reinterpret_cast<uint4*>(to + row * S::kPitch + vector * kVector) = q;
    }
  }

  __device__ static uint4 largest(uint4 const& a, uint4 const& b) {
    float left[kVector], right[kVector];
    unpack<T>(left, a);
    unpack<T>(right, b);
#pragma unroll
    for (int i = 0; i < kVector; ++i) left[i] = fmaxf(left[i], right[i]);
    return pack_vector<T>(left);
  }

  // Write a warp's 16 results, [16, kPitch] in shared memory.
  __device__ void store(T const* results, int start) const {
    int const side = problem.grid / problem.stride;
    for (int i = threadIdx.x % 32; i < kTile * S::kVectors; i += 32) {
      int const row = i / S::kVectors, vector = i % S::kVectors;
      int y, x;
      if (!query(start + row, &y, &x)) continue;
      size_t const token =
          (static_cast<size_t>(batch) * side + y / problem.stride) * side + x / problem.stride;
      T* const to = static_cast<T*>(problem.out) + (token * problem.heads + head) * D;
      *reinterpret_cast<uint4*>(to + vector * kVector) =
          *reinterpret_cast<uint4 const*>(results + row * S::kPitch + vector * kVector);
    }
  }
};

// Zero the channels behind a head's own, of `rows` rows.
template <typename T, int D>
__device__ void clear_rest(T* to, int rows) {
  using S = Shape<D>;
  if constexpr (S::kWidth > D) {
    for (int row = threadIdx.x; row < rows; row += kThreads) {
      *reinterpret_cast<uint4*>(to + row * S::kPitch + D) = make_uint4(0, 0, 0, 0);
    }
  }
}

// Only the first `keys` scores of each query count.
__device__ inline void mask_scores(float (&score)[kKeys / 8][4], int keys) {
#pragma unroll
  for (int i = 0; i < kKeys / 2; ++i) {
    int const key = i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2;
    if (key >= keys) score[i / 4][i % 4] = -INFINITY;
  }
}

template <typename T, int D>
__global__ void __launch_bounds__(kThreads) square_attention_kernel(Problem const problem) {
  using S = Shape<D>;
  T* const queries = reinterpret_cast<T*>(dynamic_shared());
  T* const keys = queries + kQueries * S::kPitch;
  Square<T, D> const square(problem);
  int const blocks = (square.tokens() + kKeys - 1) / kKeys, stages = blocks > 1 ? 2 : 1;
  T* const values = keys + stages * S::kBlock;
  int const warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int const start = square.first_query + warp * kTile;

  auto const fetch = [&](int block) {
    square.load_block(keys + block % stages * S::kBlock, 1, block);
    square.load_block(values + block % stages * S::kBlock, 2, block);
    commit_copies();
  };
  fetch(0);
  clear_rest<T, D>(queries, kQueries + 2 * stages * kKeys);
  square.load_queries(queries);
  __syncthreads();
  T* const mine = queries + warp * kTile * S::kPitch;
  uint32_t q[S::kSteps][4];
#pragma unroll
  for (int k = 0; k < S::kSteps; ++k) {
    load_matrices(q[k], mine + lane % 16 * S::kPitch + k * kTile + lane / 16 * 8);
  }

  // Scores are kept without head_dim ** -0.5, which is in the exponent of two.
  float const exponent = kLog2E / sqrtf(static_cast<float>(D));
  float out[S::kWidth / 8][4] = {};
  float peak[2] = {-INFINITY, -INFINITY}, total[2] = {};
  // Which row and column of a 16 x 16 tile this lane addresses.
  int const key_row = lane / 16 * 8 + lane % 8, key_column = lane / 8 % 2 * 8;
  int const value_row = lane % 16, value_column = lane / 16 * 8;

#pragma unroll 1
  for (int block = 0; block < blocks; ++block) {
    wait_for_copies<0>();
    __syncthreads();  // this block is there for every thread, and the one before is done with
    if (block + 1 < blocks) fetch(block + 1);
    if (start >= square.queries()) continue;
    T const* const k_stage = keys + block % stages * S::kBlock;
    T const* const v_stage = values + block % stages * S::kBlock;
    float score[kKeys / 8][4] = {};
#pragma unroll
    for (int k = 0; k < S::kSteps; ++k) {
#pragma unroll
      for (int n = 0; n < kKeys / kTile; ++n) {
        uint32_t b[4];
        load_matrices(b, k_stage + (n * kTile + key_row) * S::kPitch + k * kTile + key_column);
        Math<T>::multiply(score[2 * n], q[k], b[0], b[1]);
        Math<T>::multiply(score[2 * n + 1], q[k], b[2], b[3]);
      }
    }
    mask_scores(score, square.tokens() - block * kKeys);
    scale(out, update_softmax(score, peak, total, exponent));
#pragma unroll
    for (int k = 0; k < kKeys / kTile; ++k) {
      uint32_t weights[4];
      pack_weights<T>(weights, score[2 * k], score[2 * k + 1]);
#pragma unroll
      for (int n = 0; n < S::kSteps; ++n) {
        uint32_t b[4];
        load_matrices_transposed(
            b, v_stage + (k * kTile + value_row) * S::kPitch + n * kTile + value_column);
        Math<T>::multiply(out[2 * n], weights, b[0], b[1]);
        Math<T>::multiply(out[2 * n + 1], weights, b[2], b[3]);
      }
    }
  }

  if (start >= square.queries()) return;
  finish(mine, S::kPitch, out, total);
  __syncwarp();
  square.store(mine, start);
}

template <typename T, int D>
cudaError_t launch_of(Problem const& problem, int batch, cudaStream_t stream) {
  dim3 const blocks(batch * problem.squares * problem.squares * problem.chunks, problem.heads);
  int const stages = problem.side * problem.side > kKeys ? 2 : 1;
  return launch(square_attention_kernel<T, D>, blocks, kThreads, Shape<D>::bytes(stages), stream,
                problem);
}

template <typename T>
cudaError_t choose_width(int head_dim, Problem const& problem, int batch, cudaStream_t stream) {
  switch (head_dim) {
    case 56:
      return launch_of<T, 56>(problem, batch, stream);
    case 72:
      return launch_of<T, 72>(problem, batch, stream);
    case 96:
      return launch_of<T, 96>(problem, batch, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

bool square_attention_supported(int grid, int head_dim, int window, int stride) {
  bool const width = head_dim == 56 || head_dim == 72 || head_dim == 96;
  bool const whole = stride == 1 || (stride == 2 && grid % 2 == 0 && window % 2 == 0);
  return width && whole && grid > 0 && window >= 0;
}

cudaError_t square_attention(Type type, void const* qkv, float const* qkv_bias, void* out,
                             int batch, int grid, int heads, int head_dim, int window, int stride,
                             cudaStream_t stream) {
  if (!square_attention_supported(grid, head_dim, window, stride) || batch < 1 || heads < 1) {
    return cudaErrorInvalidValue;
  }
  int const side = window > 0 ? window : grid;
  int const queries = side / stride * (side / stride);
  Problem const problem{qkv,
                        qkv_bias,
                        out,
                        grid,
                        heads,
                        side,
                        (grid + side - 1) / side,
                        stride,
                        (queries + kQueries - 1) / kQueries};
  auto const run = type == Type::kHalf ? choose_width<__half> : choose_width<__nv_bfloat16>;
  return run(head_dim, problem, batch, stream);
}

}  // namespace samtrt
