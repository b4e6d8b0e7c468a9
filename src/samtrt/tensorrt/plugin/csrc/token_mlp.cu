// What a layer of the decoder does with tokens that have attended to the image: values and output
// layer of that attention, residual sum, norm, MLP, residual sum, norm.
//
// The MLP has most of a layer's weights. Thread blocks share out its hidden channels; each works
// out the norm before it anew, which costs less than another kernel would, and leaves its part of
// the result. The last kernel puts the parts together, in one order.

#include "launch.cuh"
#include "tokens.cuh"

namespace samtrt {
namespace {

constexpr int kHidden = 2048;

struct Problem {
  MlpWeights w;
  void const* tokens;    // [rows, kWidth]
  void const* attended;  // [rows, kInner]
  void* normed;          // [rows, kWidth]
  float* parts;          // [splits, rows, kWidth]
  void* result;          // [rows, kWidth]
  int rows;
  float epsilon;
};

// `M` tiles of 16 rows and `Share` hidden channels a thread block.
template <int M, int Share>
struct Shape {
  static constexpr int kRowCount = M * kRows;
  static constexpr int kInnerPitch = kInner + kPad, kSharePitch = Share + kPad;
  static constexpr int kBytes =
      kRowCount * (2 * (kInnerPitch + kTokenPitch + kSharePitch) + 2 * kTokenWarps * 4);
  static constexpr int kTiles = Share / kTokenWarps / 8;  // of hidden channels, of a warp
  static constexpr int kSplits = kHidden / Share;
};

template <typename T, int M, int Share>
__global__ void __launch_bounds__(kTokenThreads) mlp_kernel(Problem const problem) {
  using S = Shape<M, Share>;
  T* const attended = reinterpret_cast<T*>(dynamic_shared());
  T* const normed = attended + S::kRowCount * S::kInnerPitch;
  T* const hidden = normed + S::kRowCount * kTokenPitch;
  float* const sums = reinterpret_cast<float*>(hidden + S::kRowCount * S::kSharePitch);
  MlpWeights const& w = problem.w;
  int const rows = problem.rows, first = blockIdx.x * S::kRowCount, split = blockIdx.y;
  int const warp = threadIdx.x / 32, column = warp * kTilesOfWarp * 8;
  fill_rows(attended, S::kInnerPitch, S::kRowCount, kInner, [&](int row, int channel) {
    if (first + row >= rows) return make_uint4(0, 0, 0, 0);
    size_t const at = static_cast<size_t>(first + row) * kInner + channel;
    return read_vector(static_cast<T const*>(problem.attended) + at);
  });
  __syncthreads();

  float c[M][kTilesOfWarp][4] = {};
  multiply_rows<T, M, kTilesOfWarp, kInner>(c, attended, S::kInnerPitch,
                                            static_cast<T const*>(w.out) + column * kInner, kInner);
  for_pairs(c, column, [&](int row, int at, float& a, float& b) {
    float2 x = make_float2(0.f, 0.f);
    if (first + row < rows) {
      size_t const from = static_cast<size_t>(first + row) * kWidth + at;
      x = unpack<T>(
          *reinterpret_cast<uint32_t const*>(static_cast<T const*>(problem.tokens) + from));
    }
    a += x.x + w.out_bias[at];
    b += x.y + w.out_bias[at + 1];
  });
  normalise_rows<M>(c, sums, w.norm2_weight, w.norm2_bias, problem.epsilon);
  for_pairs(c, column, [&](int row, int at, float a, float b) {
    write_pair(normed + row * kTokenPitch + at, a, b);
    if (split == 0 && first + row < rows) {
      size_t const to = static_cast<size_t>(first + row) * kWidth + at;
      write_pair(static_cast<T*>(problem.normed) + to, a, b);
    }
  });
  __syncthreads();

  float h[M][S::kTiles][4] = {};
  int const channel = warp * S::kTiles * 8;  // of this thread block's
  multiply_rows<T, M, S::kTiles, kWidth>(
      h, normed, kTokenPitch,
      static_cast<T const*>(w.lin1) + static_cast<size_t>(split * Share + channel) * kWidth,
      kWidth);
  for_pairs(h, channel, [&](int row, int at, float a, float b) {
    float const* const bias = w.lin1_bias + split * Share + at;
    write_pair(hidden + row * S::kSharePitch + at, fmaxf(a + bias[0], 0.f),
               fmaxf(b + bias[1], 0.f));
  });
  __syncthreads();

  float out[M][kTilesOfWarp][4] = {};
  multiply_rows<T, M, kTilesOfWarp, Share>(
      out, hidden, S::kSharePitch,
      static_cast<T const*>(w.lin2) + static_cast<size_t>(column) * kHidden + split * Share,
      kHidden);
  for_pairs(out, column, [&](int row, int at, float a, float b) {
    if (first + row >= rows) return;
    size_t const to = static_cast<size_t>(split * rows + first + row) * kWidth + at;
    *reinterpret_cast<float2*>(problem.parts + to) = make_float2(a, b);
  });
}

__device__ inline float warp_sum(float x) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) x += __shfl_xor_sync(0xffffffffu, x, lanes);
  return x;
}

// One warp has one row.
template <typename T, int Splits, int Warps>
__global__ void __launch_bounds__(Warps * 32) sum_kernel(Problem const problem) {
  int const row = blockIdx.x * Warps + threadIdx.x / 32;
  if (row >= problem.rows) return;  // a whole warp
  int const channel = threadIdx.x % 32 * kVector;
  size_t const at = static_cast<size_t>(row) * kWidth + channel;
  float x[kVector];
  unpack<T>(x, read_vector(static_cast<T const*>(problem.normed) + at));
#pragma unroll
  for (int i = 0; i < kVector; ++i) x[i] += problem.w.lin2_bias[channel + i];
#pragma unroll 8
  for (int split = 0; split < Splits; ++split) {
    float const* const part =
        problem.parts + static_cast<size_t>(split) * problem.rows * kWidth + at;
    float4 const low = *reinterpret_cast<float4 const*>(part);
    float4 const high = *reinterpret_cast<float4 const*>(part + 4);
    float const both[] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
    for (int i = 0; i < kVector; ++i) x[i] += both[i];
  }
  float sum = 0.f, squares = 0.f;
#pragma unroll
  for (int i = 0; i < kVector; ++i) sum += x[i];
  float const mean = warp_sum(sum) / kWidth;
#pragma unroll
  for (int i = 0; i < kVector; ++i) squares += (x[i] - mean) * (x[i] - mean);
  float const scale = rsqrtf(warp_sum(squares) / kWidth + problem.epsilon);
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    x[i] = (x[i] - mean) * scale * problem.w.norm3_weight[channel + i] +
           problem.w.norm3_bias[channel + i];
  }
  *reinterpret_cast<uint4*>(static_cast<T*>(problem.result) + at) = pack_vector<T>(x);
}

template <typename T, int Splits, int Warps>
cudaError_t sum(Problem const& problem, cudaStream_t stream) {
  return launch(sum_kernel<T, Splits, Warps>, tiles_of(problem.rows, Warps), Warps * 32, 0, stream,
                problem);
}

template <typename T, int M, int Share>
cudaError_t launch_shape(Problem const& problem, cudaStream_t stream) {
  using S = Shape<M, Share>;
  dim3 const blocks(tiles_of(problem.rows, S::kRowCount), S::kSplits);
  cudaError_t const error =
      launch(mlp_kernel<T, M, Share>, blocks, kTokenThreads, S::kBytes, stream, problem);
  if (error != cudaSuccess) return error;
  // Few rows are spread over as many multiprocessors.
  return problem.rows <= kSlots / 2 ? sum<T, S::kSplits, 1>(problem, stream)
                                    : sum<T, S::kSplits, kWarps>(problem, stream);
}

template <typename T>
cudaError_t launch_of(Problem const& problem, cudaStream_t stream) {
  int const tiles = tiles_of(problem.rows);
  if (tiles <= 4) return launch_shape<T, 1, 64>(problem, stream);
  return tiles <= 8 ? launch_shape<T, 1, 128>(problem, stream)
                    : launch_shape<T, 2, 128>(problem, stream);
}

constexpr int kMostSplits = kHidden / 64;

}  // namespace

size_t token_mlp_workspace(int prompts, int tokens) {
  // Fewer rows have more splits: no more than 64 rows have the most.
  size_t const rows = static_cast<size_t>(prompts) * tokens, few = min(rows, size_t{4 * kRows});
  size_t const parts = max(rows * kMostSplits / 2, few * kMostSplits);
  return parts * kWidth * 4 + rows * (kWidth + kInner) * 2;
}

cudaError_t token_mlp(Type type, void const* mixed, void const* tokens, MlpWeights const& weights,
                      void* result, void* workspace, int prompts, int count, float epsilon,
                      cudaStream_t stream) {
  if (prompts < 1 || count < 1) return cudaErrorInvalidValue;
  int const rows = prompts * count;
  unsigned char* const normed = static_cast<unsigned char*>(workspace);
  unsigned char* const attended = normed + static_cast<size_t>(rows) * kWidth * 2;
  unsigned char* const parts = attended + static_cast<size_t>(rows) * kInner * 2;
  cudaError_t const error = attend_values(type, mixed, weights.value, weights.value_bias, attended,
                                          prompts, count, stream);
  if (error != cudaSuccess) return error;
  Problem const problem{weights, tokens, attended, normed, reinterpret_cast<float*>(parts),
                        result,  rows,   epsilon};
  auto const run = type == Type::kHalf ? launch_of<__half> : launch_of<__nv_bfloat16>;
  return run(problem, stream);
}

}  // namespace samtrt
