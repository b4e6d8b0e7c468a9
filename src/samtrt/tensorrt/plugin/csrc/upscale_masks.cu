// From the image's cells to low-res logits: `output_upscaling` of the official
// modeling/mask_decoder.py and its product with the hypernetworks' weights, in one pass.
//
// Both transposed convolutions are of 2 x 2 with stride 2, whose outputs do not overlap: each cell
// becomes 4 x 4 pixels of its own, and one warp makes those of 16 cells without any other. Between
// the layers nothing leaves the registers: a tile of results is the next product's operand. The
// weights stay in shared memory.

#include "decoder.cuh"
#include "gelu.cuh"
#include "kernels.h"
#include "launch.cuh"

namespace samtrt {
namespace {

constexpr int kFirst = 64, kSecond = 32, kMasks = 4;  // channels after each convolution; masks
constexpr int kUpscaleWarps = 8;
constexpr int kFirstPitch = kFirst + 8;
constexpr int kFirstRows = 4 * kFirst, kSecondRows = 4 * kSecond;
constexpr int kBytes = (kFirstRows * kPitch + kSecondRows * kFirstPitch) * 2;

struct Problem {
  void const* image;         // [prompts, side * side, kWidth]
  void const* hyper;         // [prompts, kMasks, kSecond]
  void const* first;         // [4 * kFirst, kWidth]
  float const* first_bias;   // [kFirst]
  float const* norm_weight;  // [kFirst]
  float const* norm_bias;    // [kFirst]
  void const* second;        // [4 * kSecond, kFirst]
  float const* second_bias;  // [kSecond]
  float* out;                // [prompts, kMasks, 4 * side, 4 * side]
  int prompts;
  int side;
  float epsilon;
};

// A [rows, columns] matrix to shared memory, by the whole thread block; asynchronous.
template <typename T>
__device__ void fetch_matrix(T* to, int pitch, void const* from, int rows, int columns) {
  int const vectors = columns / kVector;
  for (int i = threadIdx.x; i < rows * vectors; i += kUpscaleWarps * 32) {
    int const row = i / vectors, channel = i % vectors * kVector;
    copy_async(to + row * pitch + channel, static_cast<T const*>(from) + row * columns + channel);
  }
}

// Results begin as a bias, and 16 rows times `Tiles` * 8 rows of `b` are added.
template <typename T, int Steps, int Tiles>
__device__ void multiply_rows(float (&c)[Tiles][4], uint32_t const (&a)[Steps][4], T const* b,
                              int pitch, float const* bias) {
#pragma unroll
  for (int n = 0; n < Tiles; ++n) {
    float2 const start = *reinterpret_cast<float2 const*>(bias + n * 8 + threadIdx.x % 4 * 2);
    c[n][0] = c[n][2] = start.x;
    c[n][1] = c[n][3] = start.y;
  }
#pragma unroll
  for (int k = 0; k < Steps; ++k) {
#pragma unroll
    for (int n = 0; n < Tiles / 2; ++n) {
      uint32_t r[4];
      load_matrices(r, b + (n * 16 + b_row()) * pitch + k * 16 + b_column());
      Math<T>::multiply(c[2 * n], a[k], r[0], r[1]);
      Math<T>::multiply(c[2 * n + 1], a[k], r[2], r[3]);
    }
  }
}

// Layer norm over the channels of 16 rows, in place.
__device__ inline void normalise(float (&c)[kFirst / 8][4], float const* weight, float const* bias,
                                 float epsilon) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float sum = 0.f, squares = 0.f;
#pragma unroll
    for (int i = 0; i < kFirst / 4; ++i) sum += c[i / 2][2 * half + i % 2];
    float const mean = quad_sum(sum) / kFirst;
#pragma unroll
    for (int i = 0; i < kFirst / 4; ++i) {
      float& x = c[i / 2][2 * half + i % 2];
      x -= mean;
      squares += x * x;
    }
    float const scale = rsqrtf(quad_sum(squares) / kFirst + epsilon);
#pragma unroll
    for (int n = 0; n < kFirst / 8; ++n) {
      int const column = n * 8 + threadIdx.x % 4 * 2;
      float2 const w = *reinterpret_cast<float2 const*>(weight + column);
      float2 const b = *reinterpret_cast<float2 const*>(bias + column);
      c[n][2 * half] = c[n][2 * half] * scale * w.x + b.x;
      c[n][2 * half + 1] = c[n][2 * half + 1] * scale * w.y + b.y;
    }
  }
}

// Apply GELU and turn results to the next product's operand.
template <typename T, int Tiles>
__device__ void activate(uint32_t (&a)[Tiles / 2][4], float (&c)[Tiles][4]) {
#pragma unroll
  for (int i = 0; i < Tiles * 4; ++i) c[i / 4][i % 4] = gelu(c[i / 4][i % 4]);
#pragma unroll
  for (int k = 0; k < Tiles / 2; ++k) pack_weights<T>(a[k], c[2 * k], c[2 * k + 1]);
}

// The weights of a prompt's masks as an operand: 8 columns, of which kMasks are used.
template <typename T>
__device__ void load_hyper(uint32_t (&to)[kSecond / 16][2], T const* hyper) {
  int const mask = threadIdx.x % 32 / 4;
#pragma unroll
  for (int i = 0; i < kSecond / 8; ++i) {
    T const* const from = hyper + mask * kSecond + i * 8 + threadIdx.x % 4 * 2;
    to[i / 2][i % 2] = mask < kMasks ? *reinterpret_cast<uint32_t const*>(from) : 0u;
  }
}

template <typename T>
__global__ void __launch_bounds__(kUpscaleWarps * 32) upscale_masks_kernel(Problem const problem) {
  T* const first = reinterpret_cast<T*>(dynamic_shared());
  T* const second = first + kFirstRows * kPitch;
  fetch_matrix(first, kPitch, problem.first, kFirstRows, kWidth);
  fetch_matrix(second, kFirstPitch, problem.second, kSecondRows, kFirst);
  commit_copies();
  wait_for_copies<0>();
  __syncthreads();

  int const side = problem.side, tiles = side * side / kRows;  // of one prompt
  int const stride = gridDim.x * kUpscaleWarps;
  for (int tile = blockIdx.x * kUpscaleWarps + threadIdx.x / 32; tile < problem.prompts * tiles;
       tile += stride) {
    int const prompt = tile / tiles, cell = tile % tiles * kRows;
    uint32_t x[kSteps][4], hyper[kSecond / 16][2];
    load_rows(x, static_cast<T const*>(problem.image) + static_cast<size_t>(tile) * kRows * kWidth);
    load_hyper(hyper, static_cast<T const*>(problem.hyper) + prompt * kMasks * kSecond);
#pragma unroll 1
    for (int dy = 0; dy < 2; ++dy) {
      float pixels[2][4][4];  // of rows 2 dy and 2 dy + 1 of the cell's pixels, each column's
#pragma unroll
      for (int dx = 0; dx < 2; ++dx) {
        float large[kFirst / 8][4];
        uint32_t a[kFirst / 16][4];
        multiply_rows<T>(large, x, first + (2 * dy + dx) * kFirst * kPitch, kPitch,
                         problem.first_bias);
        normalise(large, problem.norm_weight, problem.norm_bias, problem.epsilon);
        activate<T>(a, large);
#pragma unroll
        for (int sub = 0; sub < 4; ++sub) {
          float small[kSecond / 8][4];
          uint32_t b[kSecond / 16][4];
          multiply_rows<T>(small, a, second + sub * kSecond * kFirstPitch, kFirstPitch,
                           problem.second_bias);
          activate<T>(b, small);
          float (&masks)[4] = pixels[sub / 2][2 * dx + sub % 2];
          masks[0] = masks[1] = masks[2] = masks[3] = 0.f;
#pragma unroll
          for (int k = 0; k < kSecond / 16; ++k) {
            Math<T>::multiply(masks, b[k], hyper[k][0], hyper[k][1]);
          }
        }
      }
      // Masks are columns of the results: two of this lane's, in the first two lanes of four.
      int const lane = threadIdx.x % 32;
      if (lane % 4 >= kMasks / 2) continue;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        int const number = cell + lane / 4 + i / 2 * 8, mask = lane % 4 * 2 + i % 2;
        int const y = number / side * 4 + 2 * dy, column = number % side * 4;
        float* const to = problem.out +
                          (static_cast<size_t>(prompt * kMasks + mask) * 4 * side + y) * 4 * side +
                          column;
#pragma unroll
        for (int row = 0; row < 2; ++row) {
          float const(&p)[4][4] = pixels[row];
          *reinterpret_cast<float4*>(to + row * 4 * side) =
              make_float4(p[0][i], p[1][i], p[2][i], p[3][i]);
        }
      }
    }
  }
}

template <typename T>
cudaError_t launch_of(Problem const& problem, cudaStream_t stream) {
  int const tiles = problem.prompts * (problem.side * problem.side / kRows);
  int const blocks = min((tiles + kUpscaleWarps - 1) / kUpscaleWarps, kSlots / 2);
  return launch(upscale_masks_kernel<T>, blocks, kUpscaleWarps * 32, kBytes, stream, problem);
}

}  // namespace

cudaError_t upscale_masks(Type type, void const* image, void const* hyper, void const* first,
                          float const* first_bias, float const* norm_weight, float const* norm_bias,
                          void const* second, float const* second_bias, float* out, int prompts,
                          int side, float epsilon, cudaStream_t stream) {
  if (prompts < 1 || side < 1 || side % 4 != 0) return cudaErrorInvalidValue;
  Problem const problem{image,  hyper,       first, first_bias, norm_weight, norm_bias,
                        second, second_bias, out,   prompts,    side,        epsilon};
  auto const run = type == Type::kHalf ? launch_of<__half> : launch_of<__nv_bfloat16>;
  return run(problem, stream);
}

}  // namespace samtrt
