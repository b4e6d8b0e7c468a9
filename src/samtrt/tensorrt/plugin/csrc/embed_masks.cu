// From the image and a prompt's mask to the image as the decoder sees it: `mask_downscaling` of the
// official modeling/prompt_encoder.py, or `no_mask_embed`, added to the image embedding.
//
// The convolutions do not overlap: each cell comes of 4 x 4 pixels of its own. A warp has 32 cells.
// First each lane works out the 16 channels of one of them, then each lane adds 8 channels of the
// third convolution, whose weights are in shared memory, to one cell after another. All in float32.

#include "decoder.cuh"
#include "gelu.cuh"
#include "kernels.h"
#include "launch.cuh"

namespace samtrt {
namespace {

constexpr int kFirst = 4, kSecond = 16;  // channels after each convolution
constexpr int kCells = 32;               // of a warp
constexpr int kHiddenPitch = kSecond + 1;
constexpr int kBytes = (kSecond * kWidth + kWarps * kCells * kHiddenPitch) * 4;
constexpr int kBlocks = 8;  // of a multiprocessor

struct Problem {
  void const* image;    // [side * side, kWidth]
  size_t image_stride;  // from one prompt's to the next one's; 0 where all have the same
  float const* masks;
  float const* has_mask;
  MaskEmbedding weights;
  void* out;  // [prompts, side * side, kWidth]
  int side;
  float epsilon;
};

template <int Channels>
__device__ void normalise_and_activate(float* x, float const* weight, float const* bias,
                                       float epsilon) {
  float mean = 0.f, squares = 0.f;
#pragma unroll
  for (int i = 0; i < Channels; ++i) mean += x[i] / Channels;
#pragma unroll
  for (int i = 0; i < Channels; ++i) squares += (x[i] - mean) * (x[i] - mean);
  float const scale = rsqrtf(squares / Channels + epsilon);
#pragma unroll
  for (int i = 0; i < Channels; ++i) x[i] = gelu((x[i] - mean) * scale * weight[i] + bias[i]);
}

// Both convolutions of one cell.
__device__ inline void embed_cell(float* to, float const* mask, int y, int x,
                                  Problem const& problem) {
  MaskEmbedding const& w = problem.weights;
  int const pitch = 4 * problem.side;
  float parts[4 * kFirst];  // of the 2 x 2 places, each with its channels
#pragma unroll
  for (int place = 0; place < 4; ++place) {
    float const* const from = mask + (4 * y + place / 2 * 2) * pitch + 4 * x + place % 2 * 2;
    float2 const above = *reinterpret_cast<float2 const*>(from);
    float2 const below = *reinterpret_cast<float2 const*>(from + pitch);
    float* const part = parts + place * kFirst;
#pragma unroll
    for (int c = 0; c < kFirst; ++c) {
      float const* const k = w.first + c * 4;
      part[c] = w.first_bias[c] + k[0] * above.x + k[1] * above.y + k[2] * below.x + k[3] * below.y;
    }
    normalise_and_activate<kFirst>(part, w.first_norm_weight, w.first_norm_bias, problem.epsilon);
  }
  float hidden[kSecond];
#pragma unroll
  for (int c = 0; c < kSecond; ++c) {
    hidden[c] = w.second_bias[c];
#pragma unroll
    for (int i = 0; i < 4 * kFirst; ++i) hidden[c] += w.second[c * 4 * kFirst + i] * parts[i];
  }
  normalise_and_activate<kSecond>(hidden, w.second_norm_weight, w.second_norm_bias,
                                  problem.epsilon);
#pragma unroll
  for (int c = 0; c < kSecond; ++c) to[c] = hidden[c];
}

// Few registers, so that many warps wait for memory at once: most prompts have no mask, and all
// that is done for them is a sum.
template <typename T>
__global__ void __launch_bounds__(kThreads, kBlocks) embed_masks_kernel(Problem const problem) {
  int const warp = threadIdx.x / 32, lane = threadIdx.x % 32, channel = lane * kVector;
  int const prompt = blockIdx.y, side = problem.side;
  int const first = (blockIdx.x * kWarps + warp) * kCells;
  bool const is_inside = first < side * side;  // the same for a whole warp
  T const* const image = static_cast<T const*>(problem.image) + prompt * problem.image_stride +
                         first * kWidth + channel;
  T* const out = static_cast<T*>(problem.out) +
                 (static_cast<size_t>(prompt) * side * side + first) * kWidth + channel;
  auto const write = [&](int cell, float const(&sum)[kVector]) {
    *reinterpret_cast<uint4*>(out + cell * kWidth) = pack_vector<T>(sum);
  };
  bool const has_mask = problem.has_mask[prompt] > 0.f;
  float const* const bias = has_mask ? problem.weights.third_bias : problem.weights.no_mask;
  float start[kVector];
#pragma unroll
  for (int i = 0; i < kVector; ++i) start[i] = bias[channel + i];

  if (!has_mask) {
    if (!is_inside) return;
#pragma unroll 4
    for (int cell = 0; cell < kCells; ++cell) {
      float v[kVector];
      unpack<T>(v, *reinterpret_cast<uint4 const*>(image + cell * kWidth));
#pragma unroll
      for (int i = 0; i < kVector; ++i) v[i] += start[i];
      write(cell, v);
    }
    return;
  }

  float* const third = reinterpret_cast<float*>(dynamic_shared());  // [kSecond, kWidth]
  float* const hidden = third + kSecond * kWidth + warp * kCells * kHiddenPitch;
  for (int i = threadIdx.x; i < kSecond * kWidth; i += kThreads) {
    third[i] = problem.weights.third[i % kWidth * kSecond + i / kWidth];
  }
  if (is_inside) {
    int const cell = first + lane;
    float const* const mask = problem.masks + static_cast<size_t>(prompt) * side * side * 16;
    embed_cell(hidden + lane * kHiddenPitch, mask, cell / side, cell % side, problem);
  }
  __syncthreads();
  if (!is_inside) return;
#pragma unroll 1
  for (int cell = 0; cell < kCells; cell += 2) {
    float v[2][kVector];
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      unpack<T>(v[k], *reinterpret_cast<uint4 const*>(image + (cell + k) * kWidth));
#pragma unroll
      for (int i = 0; i < kVector; ++i) v[k][i] += start[i];
    }
#pragma unroll 4
    for (int c = 0; c < kSecond; ++c) {
      float const* const w = third + c * kWidth + channel;
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        float const h = hidden[(cell + k) * kHiddenPitch + c];
#pragma unroll
        for (int i = 0; i < kVector; ++i) v[k][i] += w[i] * h;
      }
    }
    write(cell, v[0]);
    write(cell + 1, v[1]);
  }
}

template <typename T>
cudaError_t launch_of(Problem const& problem, int prompts, cudaStream_t stream) {
  int const cells = problem.side * problem.side, block = kWarps * kCells;
  return launch(embed_masks_kernel<T>, dim3((cells + block - 1) / block, prompts), kThreads, kBytes,
                stream, problem);
}

}  // namespace

cudaError_t embed_masks(Type type, void const* image, float const* masks, float const* has_mask,
                        MaskEmbedding const& weights, void* out, int images, int prompts, int side,
                        float epsilon, cudaStream_t stream) {
  if ((images != 1 && images != prompts) || prompts < 1 || side < 1 || side * side % kCells != 0)
    return cudaErrorInvalidValue;
  size_t const stride = images > 1 ? static_cast<size_t>(side) * side * kWidth : 0;
  Problem const problem{image, stride, masks, has_mask, weights, out, side, epsilon};
  auto const run = type == Type::kHalf ? launch_of<__half> : launch_of<__nv_bfloat16>;
  return run(problem, prompts, stream);
}

}  // namespace samtrt
