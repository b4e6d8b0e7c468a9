// What is read off the first five tokens at the end: the predicted IoUs, of the first, and each
// mask's weights, of the others. Values and output layer of the last attention to the image,
// residual sum, norm, then an MLP of three layers for each of the five. A thread block has one of
// the five of 16 prompts.

#include "launch.cuh"
#include "tokens.cuh"

namespace samtrt {
namespace {

constexpr int kTokens = 5;  // the IoU's and four masks'
constexpr int kMasks = kTokens - 1;
constexpr int kOutputs = 32;  // of the last layers; of the IoU's, kMasks are used
constexpr int kInnerPitch = kInner + kPad;
constexpr int kBytes = kRows * (2 * (kInnerPitch + 2 * kTokenPitch) + 2 * kTokenWarps * 4);

struct Problem {
  HeadWeights w;
  void const* tokens;    // [prompts, count, kWidth]
  void const* attended;  // [prompts, kTokens, kInner]
  void* hyper;           // [prompts, kMasks, kOutputs]
  float* iou;            // [prompts, kMasks]
  int prompts;
  int count;
  float epsilon;
};

// to = relu(from . weight + bias), of 16 rows of kWidth in shared memory.
template <typename T>
__device__ void relu_layer(T* to, T const* from, T const* weight, float const* bias) {
  int const column = threadIdx.x / 32 * kTilesOfWarp * 8;
  float c[1][kTilesOfWarp][4] = {};
  multiply_rows<T, 1, kTilesOfWarp, kWidth>(c, from, kTokenPitch, weight + column * kWidth, kWidth);
  for_pairs(c, column, [&](int row, int at, float a, float b) {
    write_pair(to + row * kTokenPitch + at, fmaxf(a + bias[at], 0.f), fmaxf(b + bias[at + 1], 0.f));
  });
  __syncthreads();
}

template <typename T>
__global__ void __launch_bounds__(kTokenThreads) token_heads_kernel(Problem const problem) {
  T* const attended = reinterpret_cast<T*>(dynamic_shared());
  T* const normed = attended + kRows * kInnerPitch;
  T* const hidden = normed + kRows * kTokenPitch;
  float* const sums = reinterpret_cast<float*>(hidden + kRows * kTokenPitch);
  HeadWeights const& w = problem.w;
  int const first = blockIdx.x * kRows, token = blockIdx.y, prompts = problem.prompts;
  int const warp = threadIdx.x / 32, column = warp * kTilesOfWarp * 8;
  fill_rows(attended, kInnerPitch, kRows, kInner, [&](int row, int channel) {
    if (first + row >= prompts) return make_uint4(0, 0, 0, 0);
    size_t const from = static_cast<size_t>(first + row) * kTokens + token;
    return read_vector(static_cast<T const*>(problem.attended) + from * kInner + channel);
  });
  __syncthreads();

  float c[1][kTilesOfWarp][4] = {};
  multiply_rows<T, 1, kTilesOfWarp, kInner>(c, attended, kInnerPitch,
                                            static_cast<T const*>(w.out) + column * kInner, kInner);
  for_pairs(c, column, [&](int row, int at, float& a, float& b) {
    float2 x = make_float2(0.f, 0.f);
    if (first + row < prompts) {
      size_t const from = static_cast<size_t>(first + row) * problem.count + token;
      x = unpack<T>(*reinterpret_cast<uint32_t const*>(static_cast<T const*>(problem.tokens) +
                                                       from * kWidth + at));
    }
    a += x.x + w.out_bias[at];
    b += x.y + w.out_bias[at + 1];
  });
  normalise_rows<1>(c, sums, w.norm_weight, w.norm_bias, problem.epsilon);
  for_pairs(c, column, [&](int row, int at, float a, float b) {
    write_pair(normed + row * kTokenPitch + at, a, b);
  });
  __syncthreads();
  size_t const matrix = static_cast<size_t>(token) * kWidth * kWidth;
  relu_layer(hidden, normed, static_cast<T const*>(w.first) + matrix,
             w.first_bias + token * kWidth);
  relu_layer(normed, hidden, static_cast<T const*>(w.second) + matrix,
             w.second_bias + token * kWidth);

  if (warp >= kOutputs / 8) return;  // a warp for each 8 columns
  float out[1][1][4] = {};
  int const at = warp * 8;
  multiply_rows<T, 1, 1, kWidth>(out, normed, kTokenPitch,
                                 static_cast<T const*>(w.last) + (token * kOutputs + at) * kWidth,
                                 kWidth);
  for_pairs(out, at, [&](int row, int number, float a, float b) {
    int const prompt = first + row;
    float const* const bias = w.last_bias + token * kOutputs + number;
    if (prompt >= prompts) return;
    if (token > 0) {
      T* const hyper = static_cast<T*>(problem.hyper);
      write_pair(hyper + (static_cast<size_t>(prompt) * kMasks + token - 1) * kOutputs + number,
                 a + bias[0], b + bias[1]);
    } else if (number < kMasks) {
      *reinterpret_cast<float2*>(problem.iou + prompt * kMasks + number) =
          make_float2(a + bias[0], b + bias[1]);
    }
  });
}

template <typename T>
cudaError_t launch_of(Problem const& problem, cudaStream_t stream) {
  dim3 const blocks(tiles_of(problem.prompts), kTokens);
  return launch(token_heads_kernel<T>, blocks, kTokenThreads, kBytes, stream, problem);
}

}  // namespace

size_t token_heads_workspace(int prompts) {
  return static_cast<size_t>(prompts) * kTokens * kInner * 2;
}

cudaError_t token_heads(Type type, void const* mixed, void const* tokens,
                        HeadWeights const& weights, void* hyper, float* iou, void* workspace,
                        int prompts, int count, float epsilon, cudaStream_t stream) {
  if (prompts < 1 || count < kTokens) return cudaErrorInvalidValue;
  cudaError_t const error = attend_values(type, mixed, weights.value, weights.value_bias, workspace,
                                          prompts, kTokens, stream);
  if (error != cudaSuccess) return error;
  Problem const problem{weights, tokens, workspace, hyper, iou, prompts, count, epsilon};
  auto const run = type == Type::kHalf ? launch_of<__half> : launch_of<__nv_bfloat16>;
  return run(problem, stream);
}

}  // namespace samtrt
