// Global attention for Hopper (compute capability 9.0): the same as attention.cu by wgmma, which
// has about twice the throughput of mma there and reads keys and values from shared memory by
// itself. Four warps share each product of 64 queries with one row of 64 keys.

#include "attention.cuh"

#ifdef SAMTRT_HOPPER  // code for sm_90a is compiled, which takes CUDA 12

#include "hopper.cuh"
#include "hopper_host.cuh"
#include "launch.cuh"

// wgmma is of sm_90a alone, not of later GPUs: the compiler says which of its passes this is.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define SAMTRT_HAS_WGMMA
#endif

namespace samtrt {
namespace {

constexpr int kSide = 64;

// `Groups` groups of four warps, each with 64 queries.
template <int D, int Groups>
struct Shape : Layout<D, kSide, Groups * 4, 1> {
  using L = Layout<D, kSide, Groups * 4, 1>;
  static constexpr int kKeys = kSide;  // of one block: a row
  static constexpr int kBlocks = L::kSquare / kKeys;
  static constexpr int kStages = 4;
  static constexpr int kAhead = 2;  // blocks on their way; the others let warps drift apart
  static constexpr int kThreadBlocks = Groups > 2 ? 1 : 2;

  // Channels 0..63 are a tile of 128-byte rows, channels 64..79 one of 32-byte rows.
  static constexpr bool kHasRest = D > 64;
  static constexpr int kMain = kKeys * 64, kRest = kHasRest ? kKeys * 16 : 0;
  static constexpr int kPart = kMain + kRest;  // keys, or values
  static constexpr int kStagesBytes = kStages * 2 * kPart * 2;
  static constexpr int kBytes =
      L::kRowTermBytes + (L::kPrologueBytes > kStagesBytes ? L::kPrologueBytes : kStagesBytes);

  // The barriers lie in what rounding leaves of the row terms' room.
  static constexpr int kBarriersAt = L::kRowTermBytes - 2 * kStages * 8;

  static_assert(D == 64 || D == 80);
  static_assert(L::kQueries * (kSide + 2) * 2 <= kBarriersAt);
  static_assert(L::kQueries * L::kPitch * 2 <= kStagesBytes);
};

template <typename T, int D, int Groups>
__global__ void __launch_bounds__(Groups * 128, Shape<D, Groups>::kThreadBlocks)
    hopper_attention_kernel(Problem const problem, __grid_constant__ CUtensorMap const main,
                            __grid_constant__ CUtensorMap const rest_map) {
#ifdef SAMTRT_HAS_WGMMA
  using S = Shape<D, Groups>;
  using L = typename S::L;
  unsigned char* const shared = dynamic_shared();
  __half* const row_terms = reinterpret_cast<__half*>(shared);
  T* const stages = reinterpret_cast<T*>(shared + S::kRowTermBytes);
  uint64_t* const full = reinterpret_cast<uint64_t*>(shared + S::kBarriersAt);
  uint64_t* const done = full + S::kStages;
  if (threadIdx.x == 0) {
    for (int i = 0; i < S::kStages; ++i) {
      make_barrier(full + i, 1);
      make_barrier(done + i, S::kWarps);
    }
    publish_barriers();
  }

  Square<T, L> const square(problem);
  int const warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int const first_query = blockIdx.x * S::kQueries + warp * kTile;

  load_table<T, L>(stages, problem.rel_pos_h);
  load_table<T, L>(stages + S::kTable * S::kPitch, problem.rel_pos_w);
  uint32_t q[S::kSteps][4];
  square.load_queries(q, first_query);
  __syncthreads();
  __half2 column_term[S::kColumns][2];
  float* const spread = reinterpret_cast<float*>(stages + 2 * S::kTable * S::kPitch) +
                        warp * kTile * (S::kSpread + 1);
  __half* const my_row_terms = row_terms + warp * kTile * (kSide + 2);
  Terms<T, L>::rows(my_row_terms, q, stages, first_query);
  Terms<T, L>::columns(column_term, q, stages + S::kTable * S::kPitch, spread, first_query);
  end_ordinary_accesses();
  __syncthreads();  // from here on keys and values are where tables and spread were

  auto const fetch = [&](int block) {
    uint64_t* const barrier = &full[block % S::kStages];
    expect_bytes(barrier, 2 * S::kPart * 2);
    int const token = square.batch * S::kSquare + block * S::kKeys;
    for (int part = 1; part < 3; ++part) {
      T* const to = stages + (block % S::kStages * 2 + part - 1) * S::kPart;
      int const column = (part * problem.heads + square.head) * D;
      copy_box(to, main, column, token, barrier);
      if (S::kHasRest) copy_box(to + S::kMain, rest_map, column + 64, token, barrier);
    }
  };
  if (threadIdx.x == 0) {
    for (int block = 0; block < S::kAhead; ++block) fetch(block);
  }

  float out[8][4] = {}, rest[2][4] = {};
  float peak[2] = {-INFINITY, -INFINITY}, total[2] = {0.f, 0.f};
#pragma unroll 1
  for (int block = 0; block < S::kBlocks; ++block) {
    int const ahead = block + S::kAhead;
    if (threadIdx.x == 0 && ahead < S::kBlocks) {
      // Every warp is done with the block that lies there.
      if (ahead >= S::kStages) {
        wait_for_phase(&done[ahead % S::kStages], ahead / S::kStages - 1);
      }
      fetch(ahead);
    }
    __syncwarp();
    wait_for_phase(&full[block % S::kStages], block / S::kStages);

    T const* const keys = stages + block % S::kStages * 2 * S::kPart;
    T const* const values = keys + S::kPart;
    float score[8][4];
    begin_scores(score, column_term);
    begin_products();
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      multiply_async<T, false>(score, q[k], describe<Swizzle::k128>(keys + k * kTile));
    }
    if constexpr (S::kHasRest) {
      multiply_async<T, false>(score, q[4], describe<Swizzle::k32>(keys + S::kMain));
    }
    end_products();
    wait_for_products<0>();

    float2 const shrink = update_softmax<L>(
        score, peak, total, my_row_terms + lane / 4 * (kSide + 2) + block, score_exponent<L>());
    scale(out, shrink);
    uint32_t weights[4][4];
#pragma unroll
    for (int k = 0; k < 4; ++k) pack_weights<T>(weights[k], score[2 * k], score[2 * k + 1]);
    if constexpr (S::kHasRest) scale(rest, shrink);
    begin_products();
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      multiply_async<T, true>(out, weights[k], describe<Swizzle::k128>(values + k * kTile * 64));
      if constexpr (S::kHasRest) {
        multiply_async<T>(rest, weights[k],
                          describe<Swizzle::k32>(values + S::kMain + k * kTile * kTile));
      }
    }
    end_products();
    wait_for_products<0>();
    arrive(&done[block % S::kStages]);
  }

  __syncthreads();  // every warp is done with keys and values
  T* const results = stages + warp * kTile * S::kPitch;
  finish(results, S::kPitch, out, total);
  if constexpr (S::kHasRest) finish(results + 64, S::kPitch, rest, total);
  __syncwarp();
  square.store(results, S::kPitch, first_query);
#endif
}

// Describe qkv as a matrix of tokens to the copy engine, in boxes of `width` channels of a row.
template <typename T>
cudaError_t describe_matrix(CUtensorMap* matrix, Problem const& problem, int batch, int head_dim,
                            int width) {
  return describe_rows<T>(matrix, problem.qkv, batch * kSide * kSide, 3 * problem.heads * head_dim,
                          width, kSide);
}

template <typename T, int D, int Groups>
cudaError_t launch_of(Problem const& problem, int batch, cudaStream_t stream) {
  using S = Shape<D, Groups>;
  CUtensorMap main{}, rest{};
  cudaError_t error = describe_matrix<T>(&main, problem, batch, D, 64);
  if (error == cudaSuccess && S::kHasRest) {
    error = describe_matrix<T>(&rest, problem, batch, D, 16);
  }
  if (error != cudaSuccess) return error;
  dim3 const blocks(S::kChunks, problem.heads, batch);
  return launch(hopper_attention_kernel<T, D, Groups>, blocks, S::kThreads, S::kBytes, stream,
                problem, main, rest);
}

// Two groups fill a multiprocessor twice over, three fill it once; what matters is how evenly the
// thread blocks of this problem come out.
template <typename T, int D>
cudaError_t choose_groups(Problem const& problem, int batch, int processors, cudaStream_t stream) {
  auto const waste = [&](int chunks, int slots) {
    int const blocks = chunks * problem.heads * batch;
    return static_cast<float>((blocks + slots - 1) / slots * slots) / blocks;
  };
  bool const two = waste(Shape<D, 2>::kChunks, 2 * processors) <=
                   waste(Shape<D, 3>::kChunks, processors) * 22 * 3 / 64;
  return two ? launch_of<T, D, 2>(problem, batch, stream)
             : launch_of<T, D, 3>(problem, batch, stream);
}

}  // namespace

bool launch_hopper_attention(Type type, Problem const& problem, int batch, int head_dim, int side,
                             cudaStream_t stream, cudaError_t* error) {
  if (side != kSide || (head_dim != 64 && head_dim != 80)) return false;
  int processors = 0;
  if (!is_hopper(&processors, error)) return *error != cudaSuccess;
  auto const half = head_dim == 64 ? choose_groups<__half, 64> : choose_groups<__half, 80>;
  auto const bfloat =
      head_dim == 64 ? choose_groups<__nv_bfloat16, 64> : choose_groups<__nv_bfloat16, 80>;
  *error = (type == Type::kHalf ? half : bfloat)(problem, batch, processors, stream);
  return true;
}

}  // namespace samtrt

#else

bool samtrt::launch_hopper_attention(Type, Problem const&, int, int, int, cudaStream_t,
                                     cudaError_t*) {
  return false;
}

#endif
