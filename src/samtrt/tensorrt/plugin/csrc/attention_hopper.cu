// Global attention for Hopper (compute capability 9.0): the same as attention.cu by wgmma, which
// has about twice the throughput of mma there and reads its operands from shared memory by itself.
// Three groups of four warps have 64 queries each, and multiply them with 128 keys at a time. A
// fourth group, the producer, asks the copy engine for keys and values, and leaves the registers
// that it does not need to the others.

#include "attention.cuh"

#ifdef SAMTRT_HOPPER  // code for sm_90a is compiled, which takes CUDA 12

#include "hopper_host.cuh"
#include "hopper_products.cuh"
#include "launch.cuh"

namespace samtrt {
namespace {

constexpr int kSide = 64;
constexpr int kGroups = 3;
constexpr int kKeys = 128;  // of one block: two rows
constexpr int kStages = 2;

// Of each thread: 128 x (3 x 160 + 32) are all of a multiprocessor.
constexpr int kConsumerRegisters = 160, kProducerRegisters = 32;

template <int D>
struct Shape : Layout<D, kSide, kGroups * 4, 1> {
  using L = Layout<D, kSide, kGroups * 4, 1>;
  static constexpr int kBlocks = L::kSquare / kKeys;

  // Channels 0..63 are tiles of 128-byte rows, channels 64..79 tiles of 32-byte rows.
  static constexpr bool kHasRest = D > 64;
  static constexpr int kMain = kKeys * 64, kRest = kHasRest ? kKeys * 16 : 0;
  static constexpr int kPart = kMain + kRest;  // keys, or values

  static constexpr int kStagesAt = L::kRowTermBytes;
  static constexpr int kStagesBytes = kStages * 2 * kPart * 2;
  static constexpr int kQueriesAt = kStagesAt + kStagesBytes;
  static constexpr int kQueriesBytes = L::kQueries * D * 2;
  static constexpr int kLoopBytes = kQueriesAt + kQueriesBytes;

  // What comes before the loop has room of its own, so that copies begin at once; where there is
  // none, it lies where copies go, which wait for it.
  static constexpr int kMostBytes = 227 * 1024;
  static constexpr bool kApart = kLoopBytes + L::kPrologueBytes <= kMostBytes;
  static constexpr int kPrologueAt = kApart ? kLoopBytes : kStagesAt;
  static constexpr int kPrologueEnd = kPrologueAt + L::kPrologueBytes;
  static constexpr int kBytes = kPrologueEnd > kLoopBytes ? kPrologueEnd : kLoopBytes;

  // The barriers lie in what rounding leaves of the row terms' room.
  static constexpr int kBarriersAt = L::kRowTermBytes - (2 * kStages + 1) * 8;

  static_assert(D == 64 || D == 80);
  static_assert(L::kQueries * (kSide + 2) * 2 <= kBarriersAt);
  static_assert(L::kQueries * L::kPitch * 2 <= kStagesBytes);
  static_assert(kBytes <= kMostBytes);
};

// Of boxes: of a block's keys or values, and of a group's queries.
struct Maps {
  CUtensorMap keys, keys_rest, queries, queries_rest;
};

// Where a thread block's things lie in shared memory.
template <typename T, int D>
struct Places {
  using S = Shape<D>;
  __half* row_terms;
  T *stages, *queries, *tables;
  uint64_t *full, *done, *queries_full;

  __device__ explicit Places(unsigned char* shared)
      : row_terms(reinterpret_cast<__half*>(shared)),
        stages(reinterpret_cast<T*>(shared + S::kStagesAt)),
        queries(reinterpret_cast<T*>(shared + S::kQueriesAt)),
        tables(reinterpret_cast<T*>(shared + S::kPrologueAt)),
        full(reinterpret_cast<uint64_t*>(shared + S::kBarriersAt)),
        done(full + kStages),
        queries_full(done + kStages) {}

  __device__ T* keys(int block) const { return stages + block % kStages * 2 * S::kPart; }
  __device__ T* values(int block) const { return keys(block) + S::kPart; }
};

// What the producer does: one thread asks for the queries, then for each block of keys and values
// as soon as every warp is done with what lies there.
template <typename T, int D, class Square>
__device__ inline void produce(Places<T, D> const& at, Square const& square, Maps const& maps) {
  using S = Shape<D>;
  int const heads = square.problem.heads;
  expect_bytes(at.queries_full, S::kQueriesBytes);
  int const first = square.batch * S::kSquare + blockIdx.x * S::kQueries;
  for (int i = 0; i < kGroups; ++i) {
    int const column = square.head * D;
    copy_box(at.queries + i * 64 * 64, maps.queries, column, first + i * 64, at.queries_full);
    if (S::kHasRest) {
      copy_box(at.queries + S::kQueries * 64 + i * 64 * 16, maps.queries_rest, column + 64,
               first + i * 64, at.queries_full);
    }
  }
  for (int block = 0; block < S::kBlocks; ++block) {
    int const stage = block % kStages, turn = block / kStages;
    if (turn > 0) wait_for_phase(&at.done[stage], turn - 1);
    expect_bytes(&at.full[stage], 2 * S::kPart * 2);
    int const token = square.batch * S::kSquare + block * kKeys;
    for (int part = 1; part < 3; ++part) {
      T* const to = part == 1 ? at.keys(block) : at.values(block);
      int const column = (part * heads + square.head) * D;
      copy_box(to, maps.keys, column, token, &at.full[stage]);
      if (S::kHasRest) {
        copy_box(to + S::kMain, maps.keys_rest, column + 64, token, &at.full[stage]);
      }
    }
  }
}

// Scores of a group's 64 queries with a block of keys, begun.
template <typename T, int D>
__device__ inline void begin_products_of_keys(float (&score)[kKeys / 8][4], T const* queries,
                                              T const* queries_rest, T const* keys) {
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    multiply_shared_async<T, 1>(score, describe<Swizzle::k128>(queries + k * kTile),
                                describe<Swizzle::k128>(keys + k * kTile));
  }
  if constexpr (Shape<D>::kHasRest) {
    multiply_shared_async<T, 1>(score, describe<Swizzle::k32>(queries_rest),
                                describe<Swizzle::k32>(keys + Shape<D>::kMain));
  }
}

// Sums of a block's values by weights, begun.
template <typename T, int D>
__device__ inline void begin_sums(float (&out)[8][4], float (&rest)[2][4],
                                  uint32_t const (&weights)[kKeys / kTile][4], T const* values) {
#pragma unroll
  for (int k = 0; k < kKeys / kTile; ++k) {
    multiply_async<T, true>(out, weights[k], describe<Swizzle::k128>(values + k * kTile * 64));
    if constexpr (Shape<D>::kHasRest) {
      multiply_async<T>(rest, weights[k],
                        describe<Swizzle::k32>(values + Shape<D>::kMain + k * kTile * kTile));
    }
  }
}

template <typename T, int D>
__global__ void __launch_bounds__(kGroups * 128 + 128, 1)
    hopper_attention_kernel(Problem const problem, __grid_constant__ Maps const maps) {
#ifdef SAMTRT_HAS_WGMMA
  using S = Shape<D>;
  using L = typename S::L;
  Places<T, D> const at(dynamic_shared());
  Square<T, L> const square(problem);
  int const warp = __shfl_sync(0xffffffffu, threadIdx.x / 32, 0), lane = threadIdx.x % 32;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      make_barrier(at.full + i, 1);
      make_barrier(at.done + i, L::kWarps);
    }
    make_barrier(at.queries_full, 1);
    publish_barriers();
  }
  __syncthreads();

  if (warp >= L::kWarps) {
    fewer_registers<kProducerRegisters>();
    if (!S::kApart) __syncthreads();
    if (warp == L::kWarps && lane == 0) produce<T, D>(at, square, maps);
    return;
  }

  more_registers<kConsumerRegisters>();
  int const first_query = blockIdx.x * L::kQueries + warp * kTile;
  load_table<T, L>(at.tables, problem.rel_pos_h);
  load_table<T, L>(at.tables + L::kTable * L::kPitch, problem.rel_pos_w);
  uint32_t q[L::kSteps][4];
  square.load_queries(q, first_query);
  wait_for_some<L::kThreads>();
  __half2 column_term[L::kColumns][2];
  float* const spread = reinterpret_cast<float*>(at.tables + 2 * L::kTable * L::kPitch) +
                        warp * kTile * (L::kSpread + 1);
  __half* const my_row_terms = at.row_terms + warp * kTile * (kSide + 2);
  Terms<T, L>::rows(my_row_terms, q, at.tables, first_query);
  Terms<T, L>::columns(column_term, q, at.tables + L::kTable * L::kPitch, spread, first_query);
  if (!S::kApart) {
    end_ordinary_accesses();
    __syncthreads();
  }
  wait_for_phase(at.queries_full, 0);

  T const* const my_queries = at.queries + warp / 4 * 64 * 64;
  T const* const my_queries_rest = at.queries + L::kQueries * 64 + warp / 4 * 64 * 16;
  float out[8][4] = {}, rest[2][4] = {};
  float peak[2] = {-INFINITY, -INFINITY}, total[2] = {0.f, 0.f};
#pragma unroll 1
  for (int block = 0; block < S::kBlocks; ++block) {
    int const stage = block % kStages;
    wait_for_phase(&at.full[stage], block / kStages);
    float score[kKeys / 8][4];
    begin_scores(score, column_term);
    begin_products();
    begin_products_of_keys<T, D>(score, my_queries, my_queries_rest, at.keys(block));
    end_products();
    wait_for_products<0>();

    float2 const shrink = update_softmax<L>(
        score, peak, total, my_row_terms + lane / 4 * (kSide + 2) + block * (kKeys / kSide),
        score_exponent<L>());
    scale(out, shrink);
    if constexpr (S::kHasRest) scale(rest, shrink);
    uint32_t weights[kKeys / kTile][4];
#pragma unroll
    for (int k = 0; k < kKeys / kTile; ++k) {
      pack_weights<T>(weights[k], score[2 * k], score[2 * k + 1]);
    }
    begin_products();
    begin_sums<T, D>(out, rest, weights, at.values(block));
    end_products();
    wait_for_products<0>();
    arrive(&at.done[stage]);
  }

  wait_for_some<L::kThreads>();  // every warp is done with keys and values
  T* const results = at.stages + warp * kTile * L::kPitch;
  finish(results, L::kPitch, out, total);
  if constexpr (S::kHasRest) finish(results + 64, L::kPitch, rest, total);
  __syncwarp();
  square.store(results, L::kPitch, first_query);
#endif
}

template <typename T, int D>
cudaError_t launch_of(Problem const& problem, int batch, cudaStream_t stream) {
  using S = Shape<D>;
  Maps maps{};
  cudaError_t error = cudaSuccess;
  auto const describe = [&](CUtensorMap* map, int width, int height) {
    if (error == cudaSuccess) {
      error = describe_rows<T>(map, problem.qkv, batch * kSide * kSide, 3 * problem.heads * D,
                               width, height);
    }
  };
  describe(&maps.keys, 64, kKeys);
  describe(&maps.queries, 64, 64);
  if (S::kHasRest) {
    describe(&maps.keys_rest, 16, kKeys);
    describe(&maps.queries_rest, 16, 64);
  }
  if (error != cudaSuccess) return error;
  dim3 const blocks(S::kChunks, problem.heads, batch);
  return launch(hopper_attention_kernel<T, D>, blocks, S::kThreads + 128, S::kBytes, stream,
                problem, maps);
}

}  // namespace

bool launch_hopper_attention(Type type, Problem const& problem, int batch, int head_dim, int side,
                             cudaStream_t stream, cudaError_t* error) {
  if (side != kSide || (head_dim != 64 && head_dim != 80)) return false;
  if (!is_hopper(error)) return *error != cudaSuccess;
  auto const half = head_dim == 64 ? launch_of<__half, 64> : launch_of<__half, 80>;
  auto const bfloat = head_dim == 64 ? launch_of<__nv_bfloat16, 64> : launch_of<__nv_bfloat16, 80>;
  *error = (type == Type::kHalf ? half : bfloat)(problem, batch, stream);
  return true;
}

}  // namespace samtrt

#else

bool samtrt::launch_hopper_attention(Type, Problem const&, int, int, int, cudaStream_t,
                                     cudaError_t*) {
  return false;
}

#endif
