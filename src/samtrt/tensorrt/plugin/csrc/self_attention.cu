// A prompt's tokens attend to one another: projections, attention, output layer, residual sum and
// layer norm. A first kernel projects; in a second each thread block has 16 tokens, and keys and
// values of all tokens of their prompts in shared memory.

#include <cmath>

#include "launch.cuh"
#include "tokens.cuh"

namespace samtrt {
namespace {

constexpr int kParts = 3 * kWidth;  // query, key and value
constexpr int kPartPitch = kParts + 8;
constexpr int kColumns = 64;           // of the projections, of one thread block
constexpr int kDim = kWidth / kHeads;  // of a head
constexpr int kShare = kDim / 2;       // of one of the two lanes that have a query and a head

struct Problem {
  void const* tokens;        // [rows, kWidth]
  void const* token_pe;      // [rows, kWidth]
  void const* qkv;           // [kParts, kWidth]
  float const* qkv_bias;     // [kParts]
  void const* out;           // [kWidth, kWidth]
  float const* out_bias;     // [kWidth]
  float const* norm_weight;  // [kWidth]
  float const* norm_bias;    // [kWidth]
  void* projected;           // [rows, kParts]
  void* result;              // [rows, kWidth]
  int rows;
  int count;  // tokens of a prompt
  bool is_first;
  float epsilon;
};

template <typename T, int M>
__global__ void __launch_bounds__(kTokenThreads) project_kernel(Problem const problem) {
  T* const rows = reinterpret_cast<T*>(dynamic_shared());
  int const first = blockIdx.x * M * kRows, warp = threadIdx.x / 32;
  int const column = blockIdx.y * kColumns + warp * (kColumns / kTokenWarps);
  // Queries and keys are of the tokens with their positions, in the first layer as they are.
  bool const has_pe = !problem.is_first && blockIdx.y * kColumns < 2 * kWidth;
  fill_rows(rows, kTokenPitch, M * kRows, kWidth, [&](int row, int channel) {
    if (first + row >= problem.rows) return make_uint4(0, 0, 0, 0);
    size_t const at = static_cast<size_t>(first + row) * kWidth + channel;
    uint4 const x = read_vector(static_cast<T const*>(problem.tokens) + at);
    if (!has_pe) return x;
    return add_vectors<T>(x, read_vector(static_cast<T const*>(problem.token_pe) + at));
  });
  __syncthreads();
  constexpr int kTiles = kColumns / kTokenWarps / 8;
  float c[M][kTiles][4] = {};
  multiply_rows<T, M, kTiles, kWidth>(c, rows, kTokenPitch,
                                      static_cast<T const*>(problem.qkv) + column * kWidth, kWidth);
  for_pairs(c, column, [&](int row, int at, float a, float b) {
    if (first + row >= problem.rows) return;
    T* const to =
        static_cast<T*>(problem.projected) + static_cast<size_t>(first + row) * kParts + at;
    write_pair(to, a + problem.qkv_bias[at], b + problem.qkv_bias[at + 1]);
  });
}

// How many rows the prompts of 16 rows can have together.
inline int most_rows(int count) { return kRows + 2 * (count - 1); }

int bytes_of(int count) {
  return (most_rows(count) * kPartPitch + kRows * kTokenPitch) * 2 + 2 * kRows * kTokenWarps * 4;
}

// One head of one query, of which this lane has half of the channels, as its neighbour has the
// other: to[kShare] from keys and values of `count` rows.
template <typename T>
__device__ void attend(float (&to)[kShare], T const* query, T const* keys, T const* values,
                       int count) {
  float q[kShare], peak = -INFINITY, total = 0.f;
#pragma unroll
  for (int i = 0; i < kShare; i += kVector) {
    unpack<T>(*reinterpret_cast<float (*)[kVector]>(q + i), read_vector(query + i));
  }
  for (int token = 0; token < count; ++token) {
    float score = 0.f, v[kVector];
#pragma unroll
    for (int i = 0; i < kShare; i += kVector) {
      unpack<T>(v, read_vector(keys + token * kPartPitch + i));
#pragma unroll
      for (int k = 0; k < kVector; ++k) score += q[i + k] * v[k];
    }
    score = (score + __shfl_xor_sync(0xffffffffu, score, 1)) * kLog2E;
    float const largest = fmaxf(peak, score);
    float const shrink = exp2_fast(peak - largest), weight = exp2_fast(score - largest);
    peak = largest;
    total = total * shrink + weight;
#pragma unroll
    for (int i = 0; i < kShare; i += kVector) {
      unpack<T>(v, read_vector(values + token * kPartPitch + i));
#pragma unroll
      for (int k = 0; k < kVector; ++k) to[i + k] = to[i + k] * shrink + weight * v[k];
    }
  }
#pragma unroll
  for (int i = 0; i < kShare; ++i) to[i] /= total;
}

template <typename T>
__global__ void __launch_bounds__(kTokenThreads) attend_kernel(Problem const problem) {
  int const rows = problem.rows, count = problem.count, first = blockIdx.x * kRows;
  T* const mixed = reinterpret_cast<T*>(dynamic_shared());
  float* const sums = reinterpret_cast<float*>(mixed + kRows * kTokenPitch);
  T* const parts = reinterpret_cast<T*>(sums + 2 * kRows * kTokenWarps);
  int const warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int const begin = first / count * count;
  int const end = min(rows, (first + kRows - 1) / count * count + count);
  T const* const projected = static_cast<T const*>(problem.projected);
  fill_rows(parts, kPartPitch, end - begin, kParts, [&](int row, int channel) {
    return read_vector(projected + static_cast<size_t>(begin + row) * kParts + channel);
  });
  __syncthreads();

  // A warp has a head. Rows beyond the last do as the last does, and are not written.
  int const mine = min(first + lane / 2, rows - 1);
  int const channel = warp * kDim + lane % 2 * kShare;
  T const* const prompt = parts + (mine / count * count - begin) * kPartPitch + channel;
  float out[kShare] = {};
  attend<T>(out, parts + (mine - begin) * kPartPitch + channel, prompt + kWidth,
            prompt + 2 * kWidth, count);
#pragma unroll
  for (int i = 0; i < kShare; i += kVector) {
    T* const to = mixed + lane / 2 * kTokenPitch + channel + i;
    *reinterpret_cast<uint4*>(to) = pack_vector<T>(out + i);
  }
  __syncthreads();

  float c[1][kTilesOfWarp][4] = {};
  int const column = warp * kTilesOfWarp * 8;
  multiply_rows<T, 1, kTilesOfWarp, kWidth>(
      c, mixed, kTokenPitch, static_cast<T const*>(problem.out) + column * kWidth, kWidth);
  for_pairs(c, column, [&](int row, int at, float& a, float& b) {
    float2 x = make_float2(0.f, 0.f);
    if (!problem.is_first && first + row < rows) {
      size_t const from = static_cast<size_t>(first + row) * kWidth + at;
      x = unpack<T>(
          *reinterpret_cast<uint32_t const*>(static_cast<T const*>(problem.tokens) + from));
    }
    a += x.x + problem.out_bias[at];
    b += x.y + problem.out_bias[at + 1];
  });
  normalise_rows<1>(c, sums, problem.norm_weight, problem.norm_bias, problem.epsilon);
  for_pairs(c, column, [&](int row, int at, float a, float b) {
    if (first + row >= rows) return;
    write_pair(static_cast<T*>(problem.result) + static_cast<size_t>(first + row) * kWidth + at, a,
               b);
  });
}

template <typename T, int M>
cudaError_t project(Problem const& problem, cudaStream_t stream) {
  dim3 const blocks(tiles_of(problem.rows, M * kRows), kParts / kColumns);
  return launch(project_kernel<T, M>, blocks, kTokenThreads, M * kRows * kTokenPitch * 2, stream,
                problem);
}

template <typename T>
cudaError_t launch_of(Problem const& problem, cudaStream_t stream) {
  bool const is_small = problem.rows <= 4 * kRows;
  cudaError_t const error =
      is_small ? project<T, 1>(problem, stream) : project<T, 2>(problem, stream);
  if (error != cudaSuccess) return error;
  return launch(attend_kernel<T>, tiles_of(problem.rows), kTokenThreads, bytes_of(problem.count),
                stream, problem);
}

}  // namespace

size_t self_attention_workspace(int prompts, int tokens) {
  return static_cast<size_t>(prompts) * tokens * kParts * 2;
}

cudaError_t self_attention(Type type, void const* tokens, void const* token_pe, void const* qkv,
                           float const* qkv_bias, void const* out, float const* out_bias,
                           float const* norm_weight, float const* norm_bias, void* result,
                           void* workspace, int prompts, int count, int is_first, float epsilon,
                           cudaStream_t stream) {
  if (prompts < 1 || count < 1 || count > kMostTokens) return cudaErrorInvalidValue;
  Problem const problem{tokens,          token_pe,    qkv,           qkv_bias,  out,
                        out_bias,        norm_weight, norm_bias,     workspace, result,
                        prompts * count, count,       is_first != 0, epsilon};
  auto const run = type == Type::kHalf ? launch_of<__half> : launch_of<__nv_bfloat16>;
  return run(problem, stream);
}

}  // namespace samtrt
