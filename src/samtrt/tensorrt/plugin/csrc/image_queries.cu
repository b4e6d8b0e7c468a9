// What tokens ask of the image: one head's projection of tokens with their positions, then that of
// the image's side, applied here. A thread block has 16 tokens and one head.

#include "launch.cuh"
#include "tokens.cuh"

namespace samtrt {
namespace {

struct Problem {
  void const* tokens;    // [prompts, count, kWidth]
  void const* token_pe;  // [prompts, count, kWidth]
  void const* query;     // [kInner, kWidth]
  float const* bias;     // [kInner]
  void const* key;       // [kHeads, kWidth, kHeadInner]
  void* out;             // [prompts, kHeads * wanted, kWidth]
  int rows;              // prompts * wanted
  int count;
  int wanted;
};

template <typename T>
__global__ void __launch_bounds__(kTokenThreads) image_queries_kernel(Problem const problem) {
  HeadMemory<T> const shared;
  int const first = blockIdx.x * kRows, head = blockIdx.y, wanted = problem.wanted;
  fill_rows(shared.rows, kTokenPitch, kRows, kWidth, [&](int row, int channel) {
    int const number = first + row;
    if (number >= problem.rows) return make_uint4(0, 0, 0, 0);
    size_t const from = static_cast<size_t>(number / wanted) * problem.count + number % wanted;
    return add_vectors<T>(
        read_vector(static_cast<T const*>(problem.tokens) + from * kWidth + channel),
        read_vector(static_cast<T const*>(problem.token_pe) + from * kWidth + channel));
  });
  project_head(shared.head, shared.parts, shared.rows,
               static_cast<T const*>(problem.query) + head * kHeadInner * kWidth,
               problem.bias + head * kHeadInner);
  float c[1][kTilesOfWarp][4] = {};
  expand_head(c, shared.head, static_cast<T const*>(problem.key) + head * kWidth * kHeadInner);
  for_pairs(c, threadIdx.x / 32 * kTilesOfWarp * 8, [&](int row, int column, float a, float b) {
    int const number = first + row;
    if (number >= problem.rows) return;
    size_t const to =
        static_cast<size_t>(number / wanted * kHeads + head) * wanted + number % wanted;
    write_pair(static_cast<T*>(problem.out) + to * kWidth + column, a, b);
  });
}

template <typename T>
cudaError_t launch_of(Problem const& problem, cudaStream_t stream) {
  dim3 const blocks(tiles_of(problem.rows), kHeads);
  return launch(image_queries_kernel<T>, blocks, kTokenThreads, HeadMemory<T>::kBytes, stream,
                problem);
}

}  // namespace

cudaError_t image_queries(Type type, void const* tokens, void const* token_pe, void const* query,
                          float const* bias, void const* key, void* out, int prompts, int count,
                          int wanted, cudaStream_t stream) {
  if (prompts < 1 || wanted < 1 || count < wanted) return cudaErrorInvalidValue;
  Problem const problem{tokens, token_pe, query, bias, key, out, prompts * wanted, count, wanted};
  auto const run = type == Type::kHalf ? launch_of<__half> : launch_of<__nv_bfloat16>;
  return run(problem, stream);
}

}  // namespace samtrt
