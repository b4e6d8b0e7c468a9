// The attention kernel for every GPU with asynchronous copies and mma.m16n8k16 (8.0 on), and the
// choice between it and Hopper's.

#include "attention.cuh"
#include "launch.cuh"

namespace samtrt {
namespace {

template <int D, int Side>
    struct Shape : Layout < D,
    Side, Side < kTile ? 7 : 4, Side<kTile ? 1 : 2> {
  using L = Layout < D, Side, Side < kTile ? 7 : 4, Side<kTile ? 1 : 2>;
  static constexpr bool kIsWindow = Side < kTile;
  static constexpr int kKeys = kIsWindow ? 32 : 64 / L::kRow * L::kRow;  // of one block of keys
  static constexpr int kBlocks = L::kSquare / kKeys;
  // All of a window's keys are in shared memory at once, blocks of a larger square by turns.
  static constexpr int kStages = kIsWindow ? kBlocks : 2;
  static constexpr int kThreadBlocks = kIsWindow && D <= 64 ? 3 : 2;  // of one multiprocessor

  static constexpr int kStage = kKeys * L::kPitch;  // of keys, or of values
  static constexpr int kStagesBytes = kStages * kStage * 2 * 2;
  // What comes before the loop lies where keys and values will, but for a window, whose keys are on
  // their way meanwhile: there it lies where values will.
  static constexpr int kPrologueAt = kIsWindow ? kStages * kStage * 2 : 0;
  static constexpr int kBytes = L::kRowTermBytes + (kPrologueAt + L::kPrologueBytes > kStagesBytes
                                                        ? kPrologueAt + L::kPrologueBytes
                                                        : kStagesBytes);

  static_assert(L::kSquare % L::kQueries == 0 && L::kSquare % kKeys == 0 && kKeys % L::kRow == 0);
  static_assert(L::kQueries * L::kPitch * 2 <= kStagesBytes);
};

template <typename T, int D, int Side>
__global__ void __launch_bounds__(Shape<D, Side>::kThreads, Shape<D, Side>::kThreadBlocks)
    attention_kernel(Problem const problem) {
  using S = Shape<D, Side>;
  using L = typename S::L;
  unsigned char* const shared = dynamic_shared();
  __half* const row_terms = reinterpret_cast<__half*>(shared);
  T* const keys = reinterpret_cast<T*>(shared + S::kRowTermBytes);
  T* const values = keys + S::kStages * S::kStage;
  T* const tables = reinterpret_cast<T*>(shared + S::kRowTermBytes + S::kPrologueAt);

  Square<T, L> const square(problem);
  int const warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int const warp_query = warp * S::kTiles * kTile;
  int const first_query = blockIdx.x * S::kQueries + warp_query;
  Loader<T, L> const loader(square);
  auto const fetch = [&](int block) {
    constexpr int kUnits = S::kKeys / kTile;
    for (int unit = warp; unit < 2 * kUnits; unit += S::kWarps) {
      int const place = block % S::kStages * S::kStage + unit % kUnits * kTile * S::kPitch;
      bool const is_key = unit < kUnits;
      loader.load((is_key ? keys : values) + place, is_key ? 1 : 2, block * kUnits + unit % kUnits);
    }
  };
  auto const fetch_all = [&](T* to, int part) {  // of a window
    for (int unit = warp; unit < S::kSquare / kTile; unit += S::kWarps) {
      loader.load(to + unit * kTile * S::kPitch, part, unit);
    }
    commit_copies();
  };
  if (S::kIsWindow) fetch_all(keys, 1);

  load_table<T, L>(tables, problem.rel_pos_h);
  load_table<T, L>(tables + S::kTable * S::kPitch, problem.rel_pos_w);
  uint32_t q[S::kTiles][S::kSteps][4];
  for (int m = 0; m < S::kTiles; ++m) square.load_queries(q[m], first_query + m * kTile);
  __syncthreads();
  __half2 column_term[S::kTiles][S::kColumns][2];
  float* const spread = reinterpret_cast<float*>(tables + 2 * S::kTable * S::kPitch) +
                        warp * kTile * (S::kSpread + 1);
#pragma unroll
  for (int m = 0; m < S::kTiles; ++m) {
    int const start = first_query + m * kTile;
    Terms<T, L>::rows(row_terms + (warp_query + m * kTile) * (Side + 2), q[m], tables, start);
    Terms<T, L>::columns(column_term[m], q[m], tables + S::kTable * S::kPitch, spread, start);
  }
  __syncthreads();  // from here on keys and values are where tables and spread were
  if (S::kIsWindow) {
    fetch_all(values, 2);
  } else {
    fetch(0);
    commit_copies();
  }

  float out[S::kTiles][D / 8][4] = {};
  float peak[S::kTiles][2], total[S::kTiles][2];
#pragma unroll
  for (int i = 0; i < S::kTiles * 2; ++i) {
    peak[i / 2][i % 2] = -INFINITY;
    total[i / 2][i % 2] = 0.f;
  }
  // Which row and column of a 16 x 16 tile this lane addresses.
  int const key_row = lane / 16 * 8 + lane % 8, key_column = lane / 8 % 2 * 8;
  int const value_row = lane % 16, value_column = lane / 16 * 8;

#pragma unroll 1
  for (int block = 0; block < S::kBlocks; ++block) {
    if (!S::kIsWindow || block == 0) {
      wait_for_copies<S::kIsWindow ? 1 : 0>();  // a window's values may come later
      __syncthreads();  // this block is there for every thread, and the one before is done with
    }
    if (!S::kIsWindow && block + 1 < S::kBlocks) {
      fetch(block + 1);
      commit_copies();
    }
    T const* const k_stage = keys + block % S::kStages * S::kStage;
    T const* const v_stage = values + block % S::kStages * S::kStage;

    float score[S::kTiles][S::kKeys / 8][4];
#pragma unroll
    for (int m = 0; m < S::kTiles; ++m) begin_scores(score[m], column_term[m]);
#pragma unroll
    for (int k = 0; k < S::kSteps; ++k) {
#pragma unroll
      for (int n = 0; n < S::kKeys / kTile; ++n) {
        uint32_t b[4];
        load_matrices(b, k_stage + (n * kTile + key_row) * S::kPitch + k * kTile + key_column);
#pragma unroll
        for (int m = 0; m < S::kTiles; ++m) {
          Math<T>::multiply(score[m][2 * n], q[m][k], b[0], b[1]);
          Math<T>::multiply(score[m][2 * n + 1], q[m][k], b[2], b[3]);
        }
      }
    }
#pragma unroll
    for (int m = 0; m < S::kTiles; ++m) {
      __half const* const terms = row_terms + (warp_query + m * kTile + lane / 4) * (Side + 2) +
                                  block * (S::kKeys / S::kRow);
      scale(out[m], update_softmax<L>(score[m], peak[m], total[m], terms, score_exponent<L>()));
    }
    if (S::kIsWindow && block == 0) {
      wait_for_copies<0>();
      __syncthreads();
    }
#pragma unroll
    for (int k = 0; k < S::kKeys / kTile; ++k) {
      uint32_t weights[S::kTiles][4];
#pragma unroll
      for (int m = 0; m < S::kTiles; ++m) {
        pack_weights<T>(weights[m], score[m][2 * k], score[m][2 * k + 1]);
      }
#pragma unroll
      for (int n = 0; n < D / kTile; ++n) {
        uint32_t b[4];
        load_matrices_transposed(
            b, v_stage + (k * kTile + value_row) * S::kPitch + n * kTile + value_column);
#pragma unroll
        for (int m = 0; m < S::kTiles; ++m) {
          Math<T>::multiply(out[m][2 * n], weights[m], b[0], b[1]);
          Math<T>::multiply(out[m][2 * n + 1], weights[m], b[2], b[3]);
        }
      }
    }
  }

  __syncthreads();  // every warp is done with keys and values
#pragma unroll
  for (int m = 0; m < S::kTiles; ++m) {
    T* const results = keys + (warp_query + m * kTile) * S::kPitch;
    finish(results, S::kPitch, out[m], total[m]);
    __syncwarp();
    square.store(results, S::kPitch, first_query + m * kTile);
  }
}

template <typename T, int D, int Side>
cudaError_t launch_of(Problem const& problem, int batch, cudaStream_t stream) {
  using S = Shape<D, Side>;
  dim3 const blocks(S::kChunks, problem.heads, batch * problem.windows * problem.windows);
  return launch(attention_kernel<T, D, Side>, blocks, S::kThreads, S::kBytes, stream, problem);
}

template <typename T, int D>
cudaError_t choose_side(int side, Problem const& problem, int batch, cudaStream_t stream) {
  switch (side) {
    case 14:
      return launch_of<T, D, 14>(problem, batch, stream);
    case 16:
      return launch_of<T, D, 16>(problem, batch, stream);
    case 32:
      return launch_of<T, D, 32>(problem, batch, stream);
    case 48:
      return launch_of<T, D, 48>(problem, batch, stream);
    case 64:
      return launch_of<T, D, 64>(problem, batch, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

template <typename T>
cudaError_t choose_width(int head_dim, int side, Problem const& problem, int batch,
                         cudaStream_t stream) {
  switch (head_dim) {
    case 32:
      return choose_side<T, 32>(side, problem, batch, stream);
    case 64:
      return choose_side<T, 64>(side, problem, batch, stream);
    case 80:
      return choose_side<T, 80>(side, problem, batch, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

bool attention_supported(int grid, int head_dim, int window) {
  bool const width = head_dim == 32 || head_dim == 64 || head_dim == 80;
  bool const whole = window == 0 && (grid == 16 || grid == 32 || grid == 48 || grid == 64);
  return width && (whole || (window == 14 && grid > 0));
}

cudaError_t rel_pos_attention(Type type, void const* qkv, float const* qkv_bias,
                              float const* rel_pos_h, float const* rel_pos_w, void* out, int batch,
                              int grid, int heads, int head_dim, int window, cudaStream_t stream) {
  if (!attention_supported(grid, head_dim, window) || batch < 1 || heads < 1) {
    return cudaErrorInvalidValue;
  }
  int const side = window > 0 ? window : grid;
  Problem const problem{qkv, qkv_bias, rel_pos_h, rel_pos_w,
                        out, grid,     heads,     (grid + side - 1) / side};
  cudaError_t error;
  for (auto const hopper : {launch_hopper_attention, launch_hopper_window_attention}) {
    if (hopper(type, problem, batch, head_dim, side, stream, &error)) return error;
  }
  auto const run = type == Type::kHalf ? choose_width<__half> : choose_width<__nv_bfloat16>;
  return run(head_dim, side, problem, batch, stream);
}

}  // namespace samtrt
