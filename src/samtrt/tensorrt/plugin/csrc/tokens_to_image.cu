// A prompt's tokens attend to the image: few queries, each cell a key and, without its position, a
// value. Online softmax over blocks of cells (FlashAttention-2, Dao 2023); the cells are divided
// among thread blocks, whose parts a second kernel puts together (as in Flash-Decoding, Dao et al.
// 2023), since there are too few queries to fill a GPU.

#include <cmath>

#include "decoder.cuh"
#include "kernels.h"
#include "launch.cuh"

namespace samtrt {
namespace {

constexpr int kQueries = kWarps * kRows;  // of a thread block
constexpr int kCells = 32;                // of one block of keys
constexpr int kStage = kCells * kPitch;   // of cells, or of their positions
constexpr int kBytes = (kQueries * kPitch + 2 * 2 * kStage) * 2;
constexpr int kPart = kWidth + 2;  // a query's part: weighted sum, peak, sum of weights

struct Problem {
  void const* queries;   // [prompts, rows, kWidth]
  void const* image;     // [prompts, cells, kWidth]
  void const* image_pe;  // [cells, kWidth]
  float* parts;          // [prompts, splits, chunks * kQueries, kPart]
  int rows;
  int cells;
  int splits;
};

// Among how many thread blocks the cells of one prompt are divided.
int choose_splits(int prompts, int chunks, int cells) {
  int const wanted = max(1, min(kSlots / (prompts * chunks), cells / (2 * kCells)));
  int const blocks = cells / kCells, each = (blocks + wanted - 1) / wanted;
  return (blocks + each - 1) / each;  // none without a block
}

template <typename T>
__global__ void __launch_bounds__(kThreads) tokens_to_image_kernel(Problem const problem) {
  T* const queries = reinterpret_cast<T*>(dynamic_shared());
  T* const stages = queries + kQueries * kPitch;
  int const split = blockIdx.x, chunk = blockIdx.y, prompt = blockIdx.z;
  int const warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int const rows = problem.rows, cells = problem.cells, splits = problem.splits;
  int const each = (cells / kCells + splits - 1) / splits;
  int const begin = split * each, end = min(begin + each, cells / kCells);
  T const* const image =
      static_cast<T const*>(problem.image) + static_cast<size_t>(prompt) * cells * kWidth;
  auto const fetch = [&](int block) {
    T* const to = stages + block % 2 * 2 * kStage;
    auto const source = [&](int row) { return block * kCells + row; };
    fetch_rows(to, image, kCells, source);
    fetch_rows(to + kStage, static_cast<T const*>(problem.image_pe), kCells, source);
    commit_copies();
  };
  fetch_rows(queries,
             static_cast<T const*>(problem.queries) + static_cast<size_t>(prompt) * rows * kWidth,
             kQueries,
             [&](int row) { return chunk * kQueries + row < rows ? chunk * kQueries + row : -1; });
  fetch(begin);

  float out[kWidth / 8][4] = {};
  float peak[2] = {-INFINITY, -INFINITY}, total[2] = {0.f, 0.f};
#pragma unroll 1
  for (int block = begin; block < end; ++block) {
    wait_for_copies<0>();
    __syncthreads();  // this block is there for every thread, and the one before is done with
    if (block + 1 < end) fetch(block + 1);
    T const* const values = stages + block % 2 * 2 * kStage;

    float score[kCells / 8][4] = {};
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      uint32_t q[4];
      load_matrices(q, queries + (warp * kRows + a_row()) * kPitch + k * 16 + a_column());
#pragma unroll
      for (int n = 0; n < kCells / 16; ++n) {
        uint32_t b[4], pe[4];
        T const* const from = values + (n * 16 + b_row()) * kPitch + k * 16 + b_column();
        load_matrices(b, from);
        load_matrices(pe, from + kStage);
#pragma unroll
        for (int i = 0; i < 4; ++i) b[i] = add_pairs<T>(b[i], pe[i]);
        Math<T>::multiply(score[2 * n], q, b[0], b[1]);
        Math<T>::multiply(score[2 * n + 1], q, b[2], b[3]);
      }
    }

#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float largest = peak[half];
#pragma unroll
      for (int i = 0; i < kCells / 4; ++i) {
        score[i / 2][2 * half + i % 2] *= kLog2E;
        largest = fmaxf(largest, score[i / 2][2 * half + i % 2]);
      }
      largest = quad_max(largest);
      float const shrink = exp2_fast(peak[half] - largest);
      peak[half] = largest;
      float sum = 0.f;
#pragma unroll
      for (int i = 0; i < kCells / 4; ++i) {
        float& x = score[i / 2][2 * half + i % 2];
        x = exp2_fast(x - largest);
        sum += x;
      }
      total[half] = total[half] * shrink + sum;
#pragma unroll
      for (int i = 0; i < kWidth / 4; ++i) out[i / 2][2 * half + i % 2] *= shrink;
    }

#pragma unroll
    for (int k = 0; k < kCells / 16; ++k) {
      uint32_t weights[4];
      pack_weights<T>(weights, score[2 * k], score[2 * k + 1]);
#pragma unroll
      for (int n = 0; n < kSteps; ++n) {
        uint32_t b[4];
        load_matrices_transposed(b, values + (k * 16 + a_row()) * kPitch + n * 16 + a_column());
        Math<T>::multiply(out[2 * n], weights, b[0], b[1]);
        Math<T>::multiply(out[2 * n + 1], weights, b[2], b[3]);
      }
    }
  }

#pragma unroll
  for (int half = 0; half < 2; ++half) {
    int const row = chunk * kQueries + warp * kRows + lane / 4 + half * 8;
    int const padded = gridDim.y * kQueries;
    float* const part =
        problem.parts + (static_cast<size_t>(prompt * splits + split) * padded + row) * kPart;
    float const sum = quad_sum(total[half]);
    if (lane % 4 == 0) *reinterpret_cast<float2*>(part + kWidth) = make_float2(peak[half], sum);
#pragma unroll
    for (int n = 0; n < kWidth / 8; ++n) {
      *reinterpret_cast<float2*>(part + n * 8 + lane % 4 * 2) =
          make_float2(out[n][2 * half], out[n][2 * half + 1]);
    }
  }
}

// One warp puts the parts of one query together.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    combine_kernel(float const* parts, T* out, int count, int rows, int padded, int splits) {
  int const query = blockIdx.x * kWarps + threadIdx.x / 32;
  if (query >= count) return;  // a whole warp
  int const prompt = query / rows, row = query % rows, channel = threadIdx.x % 32 * kVector;
  float peak = -INFINITY, total = 0.f, sum[kVector] = {};
  for (int split = 0; split < splits; ++split) {
    float const* const part =
        parts + (static_cast<size_t>(prompt * splits + split) * padded + row) * kPart;
    float const largest = fmaxf(peak, part[kWidth]);
    float const shrink = exp2_fast(peak - largest), share = exp2_fast(part[kWidth] - largest);
    peak = largest;
    total = total * shrink + part[kWidth + 1] * share;
#pragma unroll
    for (int i = 0; i < kVector; ++i) sum[i] = sum[i] * shrink + part[channel + i] * share;
  }
#pragma unroll
  for (int i = 0; i < kVector; ++i) sum[i] /= total;
  *reinterpret_cast<uint4*>(out + static_cast<size_t>(query) * kWidth + channel) =
      pack_vector<T>(sum);
}

template <typename T>
cudaError_t launch_of(Problem const& problem, void* out, int prompts, int chunks,
                      cudaStream_t stream) {
  dim3 const blocks(problem.splits, chunks, prompts);
  cudaError_t const error =
      launch(tokens_to_image_kernel<T>, blocks, kThreads, kBytes, stream, problem);
  if (error != cudaSuccess) return error;
  int const count = prompts * problem.rows;
  return launch(combine_kernel<T>, (count + kWarps - 1) / kWarps, kThreads, 0, stream,
                static_cast<float const*>(problem.parts), static_cast<T*>(out), count, problem.rows,
                chunks * kQueries, problem.splits);
}

int chunks_of(int rows) { return (rows + kQueries - 1) / kQueries; }

}  // namespace

size_t tokens_to_image_workspace(int prompts, int rows) {
  int const chunks = chunks_of(rows);
  // choose_splits of these and of fewer prompts and rows: `blocks` of them, or one for each chunk.
  size_t const blocks = static_cast<size_t>(kSlots) + static_cast<size_t>(prompts) * chunks;
  return blocks * kQueries * kPart * sizeof(float);
}

cudaError_t tokens_to_image(Type type, void const* queries, void const* image, void const* image_pe,
                            void* out, void* workspace, int prompts, int rows, int cells,
                            cudaStream_t stream) {
  if (prompts < 1 || rows < 1 || cells < 1 || cells % kCells != 0) return cudaErrorInvalidValue;
  int const chunks = chunks_of(rows);
  Problem const problem{queries,
                        image,
                        image_pe,
                        static_cast<float*>(workspace),
                        rows,
                        cells,
                        choose_splits(prompts, chunks, cells)};
  auto const run = type == Type::kHalf ? launch_of<__half> : launch_of<__nv_bfloat16>;
  return run(problem, out, prompts, chunks, stream);
}

}  // namespace samtrt
