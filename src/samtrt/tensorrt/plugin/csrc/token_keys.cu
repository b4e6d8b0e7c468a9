// What the image is to attend to: keys and values of tokens, with the projections of the image's
// side and the output layer applied here. A thread block has 16 tokens and one head.

#include "launch.cuh"
#include "tokens.cuh"

namespace samtrt {
namespace {

struct Problem {
  void const* tokens;    // [prompts, count, kWidth]
  void const* token_pe;  // [prompts, count, kWidth]
  void const* key;       // [kInner, kWidth]
  float const* key_bias;
  void const* query;        // [kHeads, kWidth, kHeadInner]
  float const* query_bias;  // [kInner]
  void const* value;        // [kInner, kWidth]
  float const* value_bias;
  void const* out;  // [kHeads, kWidth, kHeadInner]
  float const* out_bias;
  void* keys;     // [prompts, kHeads * count, kWidth]
  void* offsets;  // [prompts, kHeads * count]
  void* values;   // as keys
  int rows;
  int count;
};

constexpr int kBytes = kRows * (2 * kTokenPitch + kHeadInner) * 2 + kHeadBytes;

template <typename T>
__global__ void __launch_bounds__(kTokenThreads) token_keys_kernel(Problem const problem) {
  T* const placed = reinterpret_cast<T*>(dynamic_shared());
  T* const plain = placed + kRows * kTokenPitch;
  T* const small = plain + kRows * kTokenPitch;
  float* const parts = reinterpret_cast<float*>(small + kRows * kHeadInner);
  int const first = blockIdx.x * kRows, head = blockIdx.y, count = problem.count;
  auto const read = [&](void const* from, int row, int channel) {
    if (first + row >= problem.rows) return make_uint4(0, 0, 0, 0);
    size_t const at = static_cast<size_t>(first + row) * kWidth + channel;
    return read_vector(static_cast<T const*>(from) + at);
  };
  fill_rows(plain, kTokenPitch, kRows, kWidth, [&](int row, int channel) {
    uint4 const x = read(problem.tokens, row, channel);
    *reinterpret_cast<uint4*>(placed + row * kTokenPitch + channel) =
        add_vectors<T>(x, read(problem.token_pe, row, channel));
    return x;
  });
  // Where a row of this head lies among keys, offsets and values.
  auto const place = [&](int row) {
    int const number = first + row;
    return static_cast<size_t>(number / count * kHeads + head) * count + number % count;
  };
  auto const write = [&](void* to, float (&c)[1][kTilesOfWarp][4]) {
    for_pairs(c, threadIdx.x / 32 * kTilesOfWarp * 8, [&](int row, int column, float a, float b) {
      if (first + row >= problem.rows) return;
      write_pair(static_cast<T*>(to) + place(row) * kWidth + column, a, b);
    });
  };
  int const inner = head * kHeadInner, outer = head * kWidth * kHeadInner;

  project_head(small, parts, placed, static_cast<T const*>(problem.key) + inner * kWidth,
               problem.key_bias + inner);
  float keys[1][kTilesOfWarp][4] = {};
  expand_head(keys, small, static_cast<T const*>(problem.query) + outer);
  write(problem.keys, keys);
  if (threadIdx.x < kRows && first + threadIdx.x < problem.rows) {
    float sum = 0.f;
#pragma unroll
    for (int i = 0; i < kHeadInner; ++i) {
      sum += float(small[threadIdx.x * kHeadInner + i]) * problem.query_bias[inner + i];
    }
    static_cast<T*>(problem.offsets)[place(threadIdx.x)] = T(sum);
  }

  project_head(small, parts, plain, static_cast<T const*>(problem.value) + inner * kWidth,
               problem.value_bias + inner);
  float values[1][kTilesOfWarp][4] = {};
  for_pairs(values, threadIdx.x / 32 * kTilesOfWarp * 8, [&](int, int at, float& a, float& b) {
    // A row of attention sums to one in each head: they share the bias out.
    a = problem.out_bias[at] / kHeads;
    b = problem.out_bias[at + 1] / kHeads;
  });
  expand_head(values, small, static_cast<T const*>(problem.out) + outer);
  write(problem.values, values);
}

template <typename T>
cudaError_t launch_of(Problem const& problem, cudaStream_t stream) {
  dim3 const blocks(tiles_of(problem.rows), kHeads);
  return launch(token_keys_kernel<T>, blocks, kTokenThreads, kBytes, stream, problem);
}

}  // namespace

cudaError_t token_keys(Type type, void const* tokens, void const* token_pe, KeyProjections const& w,
                       void* keys, void* offsets, void* values, int prompts, int count,
                       cudaStream_t stream) {
  if (prompts < 1 || count < 1) return cudaErrorInvalidValue;
  Problem const problem{tokens,       token_pe, w.key,        w.key_bias,      w.query,
                        w.query_bias, w.value,  w.value_bias, w.out,           w.out_bias,
                        keys,         offsets,  values,       prompts * count, count};
  auto const run = type == Type::kHalf ? launch_of<__half> : launch_of<__nv_bfloat16>;
  return run(problem, stream);
}

}  // namespace samtrt
