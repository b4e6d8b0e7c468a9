// Attention of one head of 256 channels, whose values may be narrower: SAM 2's attention to the
// frame itself and to memories (`RoPEAttention` of the official modeling/sam/transformer.py), after
// queries and keys were turned. For Hopper (compute capability 9.0) alone.
//
// Online softmax over blocks of keys (FlashAttention-2, Dao 2023). Two groups of four warps have 64
// queries each; a third, the producer, asks the copy engine for keys and values. Where there are
// fewer such thread blocks than multiprocessors, keys are divided among several, whose parts a
// second kernel puts together (as in Flash-Decoding, Dao et al. 2023).

#include "kernels.h"

#ifdef SAMTRT_HOPPER  // code for sm_90a is compiled, which takes CUDA 12

#include <cmath>

#include "hopper_host.cuh"
#include "hopper_products.cuh"
#include "launch.cuh"
#include "online_softmax.cuh"

namespace samtrt {
namespace {

constexpr int kWidth = 256, kTiles = kWidth / 64;  // of queries and keys
constexpr int kTile = 16, kGroups = 2, kQueries = kGroups * 64;
constexpr int kStages = 2;
constexpr int kSlots = 132;  // multiprocessors, for each of which there should be a thread block

// Of each thread: 128 x (2 x 232 + 32) are nearly all of a multiprocessor.
constexpr int kConsumerRegisters = 232, kProducerRegisters = 32;

struct Problem {
  float const* mask;  // [objects or 1, keys]
  size_t mask_stride;
  void* out;     // [objects, queries, V]
  float* parts;  // [objects, splits, queries, V + 2]; null where one thread block has all keys
  int queries, keys, splits;
};

// Where things lie in shared memory: tiles of 64 channels, in rows of 128 bytes.
template <int V>
struct Shape {
  static constexpr int kKeys = V == 64 ? 128 : 64;  // of one block
  static constexpr int kValueTiles = V / 64;
  static constexpr int kStage = (kTiles + kValueTiles) * kKeys * 64;
  static constexpr int kStagesAt = kTiles * kQueries * 64;
  static constexpr int kBarriersAt = (kStagesAt + kStages * kStage) * 2;
  static constexpr int kBytes = kBarriersAt + (2 * kStages + 1) * 8;
  static constexpr int kPart = V + 2;  // a query's part: weighted sum, peak, sum of weights

  static_assert(V % 64 == 0 && kBytes <= 227 * 1024);
};

struct Maps {
  CUtensorMap queries, keys, values;
};

// Which blocks of keys a thread block has.
template <int V>
struct Blocks {
  int first, end;

  __device__ explicit Blocks(Problem const& problem) {
    int const count = (problem.keys + Shape<V>::kKeys - 1) / Shape<V>::kKeys;
    int const each = (count + problem.splits - 1) / problem.splits;
    first = blockIdx.y * each;
    end = min(first + each, count);
  }
};

template <typename T, int V>
__device__ inline void produce(T* shared, uint64_t* barriers, Blocks<V> const& blocks,
                               Maps const& maps) {
  using S = Shape<V>;
  uint64_t *const full = barriers, *const done = full + kStages;
  uint64_t* const queries_full = done + kStages;
  int const object = blockIdx.z, first_query = blockIdx.x * kQueries;
  expect_bytes(queries_full, kTiles * kQueries * 64 * 2);
  for (int tile = 0; tile < kTiles; ++tile) {
    copy_box(shared + tile * kQueries * 64, maps.queries, tile * 64, first_query, 0, object,
             queries_full);
  }
  for (int block = blocks.first; block < blocks.end; ++block) {
    int const number = block - blocks.first, stage = number % kStages, turn = number / kStages;
    if (turn > 0) wait_for_phase(&done[stage], turn - 1);
    expect_bytes(&full[stage], S::kStage * 2);
    T* to = shared + S::kStagesAt + stage * S::kStage;
    for (int tile = 0; tile < kTiles + S::kValueTiles; ++tile, to += S::kKeys * 64) {
      bool const is_key = tile < kTiles;
      copy_box(to, is_key ? maps.keys : maps.values, (is_key ? tile : tile - kTiles) * 64,
               block * S::kKeys, 0, object, &full[stage]);
    }
  }
}

// The factor between scores as they are kept and exponents of two.
__device__ inline float score_exponent() { return kLog2E / sqrtf(static_cast<float>(kWidth)); }

// What scores start from: the mask, which is kept without the factor that they lack.
template <int Tiles>
__device__ inline void begin_scores(float (&score)[Tiles][4], float const* mask, int first,
                                    int keys) {
  float const unscale = sqrtf(static_cast<float>(kWidth));
#pragma unroll
  for (int i = 0; i < 2 * Tiles; ++i) {
    int const key = first + i / 2 * 8 + threadIdx.x % 4 * 2 + i % 2;
    float const term = key < keys ? mask[key] * unscale : -INFINITY;
    score[i / 2][i % 2] = score[i / 2][2 + i % 2] = term;
  }
}

template <typename T, int V>
__device__ inline void write(Problem const& problem, float const (&out)[V / 64][8][4],
                             float const (&peak)[2], float const (&total)[2], int start) {
  int const lane = threadIdx.x % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    int const row = start + lane / 4 + half * 8;
    float const sum = quad_sum(total[half]);
    if (row >= problem.queries) continue;
    size_t const query = static_cast<size_t>(blockIdx.z) * problem.queries + row;
    if (problem.parts == nullptr) {
      T* const to = static_cast<T*>(problem.out) + query * V + lane % 4 * 2;
#pragma unroll
      for (int n = 0; n < V / 8; ++n) {
        float const(&c)[4] = out[n / 8][n % 8];
        *reinterpret_cast<uint32_t*>(to + n * 8) =
            pack<T>(c[2 * half] / sum, c[2 * half + 1] / sum);
      }
      continue;
    }
    size_t const split = static_cast<size_t>(blockIdx.z) * problem.splits + blockIdx.y;
    float* const part = problem.parts + (split * problem.queries + row) * Shape<V>::kPart;
    if (lane % 4 == 0) *reinterpret_cast<float2*>(part + V) = make_float2(peak[half], sum);
#pragma unroll
    for (int n = 0; n < V / 8; ++n) {
      float const(&c)[4] = out[n / 8][n % 8];
      *reinterpret_cast<float2*>(part + n * 8 + lane % 4 * 2) =
          make_float2(c[2 * half], c[2 * half + 1]);
    }
  }
}

template <typename T, int V>
__global__ void __launch_bounds__(kGroups * 128 + 128, 1)
    memory_attention_kernel(Problem const problem, __grid_constant__ Maps const maps) {
#ifdef SAMTRT_HAS_WGMMA
  using S = Shape<V>;
  T* const shared = reinterpret_cast<T*>(dynamic_shared());
  uint64_t* const full = reinterpret_cast<uint64_t*>(dynamic_shared() + S::kBarriersAt);
  uint64_t *const done = full + kStages, *const queries_full = done + kStages;
  Blocks<V> const blocks(problem);
  int const warp = __shfl_sync(0xffffffffu, threadIdx.x / 32, 0), lane = threadIdx.x % 32;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      make_barrier(full + i, 1);
      make_barrier(done + i, kGroups * 4);
    }
    make_barrier(queries_full, 1);
    publish_barriers();
  }
  __syncthreads();
  if (warp >= kGroups * 4) {
    fewer_registers<kProducerRegisters>();
    if (warp == kGroups * 4 && lane == 0) produce<T, V>(shared, full, blocks, maps);
    return;
  }

  more_registers<kConsumerRegisters>();
  float const* const mask = problem.mask + blockIdx.z * problem.mask_stride;
  T const* const queries = shared + warp / 4 * 64 * 64;
  float out[S::kValueTiles][8][4] = {};
  float peak[2] = {-INFINITY, -INFINITY}, total[2] = {0.f, 0.f};
  wait_for_phase(queries_full, 0);
#pragma unroll 1
  for (int block = blocks.first; block < blocks.end; ++block) {
    int const number = block - blocks.first, stage = number % kStages;
    T const* const keys = shared + S::kStagesAt + stage * S::kStage;
    T const* const values = keys + kTiles * S::kKeys * 64;
    float score[S::kKeys / 8][4];
    begin_scores(score, mask, block * S::kKeys, problem.keys);
    wait_for_phase(&full[stage], number / kStages);
    begin_products();
#pragma unroll
    for (int k = 0; k < kWidth / kTile; ++k) {
      int const tile = k / 4, at = k % 4 * kTile;
      multiply_shared_async<T, 1>(score,
                                  describe<Swizzle::k128>(queries + tile * kQueries * 64 + at),
                                  describe<Swizzle::k128>(keys + tile * S::kKeys * 64 + at));
    }
    end_products();
    wait_for_products<0>();

    float2 const shrink = update_softmax(score, peak, total, score_exponent());
#pragma unroll
    for (int tile = 0; tile < S::kValueTiles; ++tile) scale(out[tile], shrink);
    uint32_t weights[S::kKeys / kTile][4];
#pragma unroll
    for (int k = 0; k < S::kKeys / kTile; ++k) {
      pack_weights<T>(weights[k], score[2 * k], score[2 * k + 1]);
    }
    begin_products();
#pragma unroll
    for (int k = 0; k < S::kKeys / kTile; ++k) {
#pragma unroll
      for (int tile = 0; tile < S::kValueTiles; ++tile) {
        multiply_async<T, true>(
            out[tile], weights[k],
            describe<Swizzle::k128>(values + (tile * S::kKeys + k * kTile) * 64));
      }
    }
    end_products();
    wait_for_products<0>();
    arrive(&done[stage]);
  }
  write<T, V>(problem, out, peak, total, blockIdx.x * kQueries + warp * kTile);
#endif
}

// One warp puts the parts of one query together.
template <typename T, int V>
__global__ void __launch_bounds__(128) combine_kernel(Problem const problem, int count) {
  constexpr int kEach = V / 32;  // channels of a lane
  int const query = blockIdx.x * 4 + threadIdx.x / 32, channel = threadIdx.x % 32 * kEach;
  if (query >= count) return;  // a whole warp
  int const object = query / problem.queries, row = query % problem.queries;
  float const exponent = score_exponent();
  float peak = -INFINITY, total = 0.f, sum[kEach] = {};
  for (int split = 0; split < problem.splits; ++split) {
    size_t const number = static_cast<size_t>(object) * problem.splits + split;
    float const* const part = problem.parts + (number * problem.queries + row) * Shape<V>::kPart;
    float const largest = fmaxf(peak, part[V]);
    float const shrink = exp2_fast((peak - largest) * exponent);
    float const share = exp2_fast((part[V] - largest) * exponent);
    peak = largest;
    total = total * shrink + part[V + 1] * share;
#pragma unroll
    for (int i = 0; i < kEach; ++i) sum[i] = sum[i] * shrink + part[channel + i] * share;
  }
  T* const to = static_cast<T*>(problem.out) + static_cast<size_t>(query) * V + channel;
#pragma unroll
  for (int i = 0; i < kEach; i += 2) {
    *reinterpret_cast<uint32_t*>(to + i) = pack<T>(sum[i] / total, sum[i + 1] / total);
  }
}

int chunks_of(int queries) { return (queries + kQueries - 1) / kQueries; }

template <typename T, int V>
cudaError_t launch_of(Problem problem, void const* queries, void const* keys, void const* values,
                      int objects, cudaStream_t stream) {
  using S = Shape<V>;
  Maps maps{};
  cudaError_t error = cudaSuccess;
  auto const describe = [&](CUtensorMap* map, void const* start, int rows, int width, int height) {
    if (error != cudaSuccess) return;
    cuuint64_t const sizes[] = {static_cast<cuuint64_t>(width), static_cast<cuuint64_t>(rows), 1,
                                static_cast<cuuint64_t>(objects)};
    cuuint32_t const box[] = {64, static_cast<cuuint32_t>(height), 1, 1};
    error = describe_tensor<T>(map, start, sizes, box);
  };
  describe(&maps.queries, queries, problem.queries, kWidth, kQueries);
  describe(&maps.keys, keys, problem.keys, kWidth, S::kKeys);
  describe(&maps.values, values, problem.keys, V, S::kKeys);
  if (error != cudaSuccess) return error;
  int const chunks = chunks_of(problem.queries);
  int const count = (problem.keys + S::kKeys - 1) / S::kKeys;
  int const wanted = max(1, min(kSlots / (objects * chunks), count));
  int const each = (count + wanted - 1) / wanted;
  problem.splits = (count + each - 1) / each;  // none without a block
  if (problem.splits == 1) problem.parts = nullptr;
  error = launch(memory_attention_kernel<T, V>, dim3(chunks, problem.splits, objects),
                 kGroups * 128 + 128, S::kBytes, stream, problem, maps);
  if (error != cudaSuccess || problem.splits == 1) return error;
  int const rows = objects * problem.queries;
  return launch(combine_kernel<T, V>, dim3((rows + 3) / 4), 128, 0, stream, problem, rows);
}

}  // namespace

size_t memory_attention_workspace(int channels) {
  // There are parts where there are no more thread blocks than slots.
  return static_cast<size_t>(kSlots) * kQueries * (channels + 2) * sizeof(float);
}

cudaError_t memory_attention(Type type, void const* queries, void const* keys, void const* values,
                             float const* mask, void* out, void* workspace, int objects, int masks,
                             int query_count, int key_count, int channels, cudaStream_t stream) {
  bool const fits = objects > 0 && query_count > 0 && key_count > 0 &&
                    (masks == 1 || masks == objects) && (channels == 64 || channels == 256);
  if (!fits) return cudaErrorInvalidValue;
  cudaError_t error;
  if (!is_hopper(&error)) return error != cudaSuccess ? error : cudaErrorNotSupported;
  size_t const stride = masks > 1 ? key_count : 0;
  Problem const problem{mask,        stride,    out, static_cast<float*>(workspace),
                        query_count, key_count, 1};
  auto const half = channels == 64 ? launch_of<__half, 64> : launch_of<__half, 256>;
  auto const bfloat = channels == 64 ? launch_of<__nv_bfloat16, 64> : launch_of<__nv_bfloat16, 256>;
  return (type == Type::kHalf ? half : bfloat)(problem, queries, keys, values, objects, stream);
}

}  // namespace samtrt

#else

namespace samtrt {

size_t memory_attention_workspace(int) { return 0; }

cudaError_t memory_attention(Type, void const*, void const*, void const*, float const*, void*,
                             void*, int, int, int, int, int, cudaStream_t) {
  return cudaErrorNotSupported;
}

}  // namespace samtrt

#endif
