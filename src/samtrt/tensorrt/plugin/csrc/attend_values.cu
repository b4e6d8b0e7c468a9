// See tokens.cuh.

#include "launch.cuh"
#include "tokens.cuh"

namespace samtrt {
namespace {

struct Problem {
  void const* mixed;  // [prompts, kHeads * tokens, kWidth]
  void const* value;  // [kInner, kWidth]
  float const* bias;  // [kInner]
  void* out;          // [prompts, tokens, kInner]
  int rows;
  int tokens;
};

template <typename T>
__global__ void __launch_bounds__(kTokenThreads) attend_values_kernel(Problem const problem) {
  HeadMemory<T> const shared;
  int const first = blockIdx.x * kRows, head = blockIdx.y, tokens = problem.tokens;
  fill_rows(shared.rows, kTokenPitch, kRows, kWidth, [&](int row, int channel) {
    int const number = first + row;
    if (number >= problem.rows) return make_uint4(0, 0, 0, 0);
    size_t const from =
        static_cast<size_t>(number / tokens * kHeads + head) * tokens + number % tokens;
    return read_vector(static_cast<T const*>(problem.mixed) + from * kWidth + channel);
  });
  project_head(shared.head, shared.parts, shared.rows,
               static_cast<T const*>(problem.value) + head * kHeadInner * kWidth,
               problem.bias + head * kHeadInner);
  int const row = threadIdx.x / kHeadInner, channel = threadIdx.x % kHeadInner;
  if (first + row >= problem.rows) return;
  T* const out = static_cast<T*>(problem.out) + static_cast<size_t>(first + row) * kInner;
  out[head * kHeadInner + channel] = shared.head[threadIdx.x];
}

template <typename T>
cudaError_t launch_of(Problem const& problem, cudaStream_t stream) {
  dim3 const blocks(tiles_of(problem.rows), kHeads);
  return launch(attend_values_kernel<T>, blocks, kTokenThreads, HeadMemory<T>::kBytes, stream,
                problem);
}

}  // namespace

cudaError_t attend_values(Type type, void const* mixed, void const* value, float const* bias,
                          void* out, int prompts, int tokens, cudaStream_t stream) {
  Problem const problem{mixed, value, bias, out, prompts * tokens, tokens};
  auto const run = type == Type::kHalf ? launch_of<__half> : launch_of<__nv_bfloat16>;
  return run(problem, stream);
}

}  // namespace samtrt
