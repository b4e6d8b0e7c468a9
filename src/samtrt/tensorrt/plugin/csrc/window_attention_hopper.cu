// Window attention for Hopper (compute capability 9.0): a thread block has one head of one window,
// with all of its keys and values in shared memory; its two groups of four warps share the
// tiles of 56 queries, 4 rows of the window.
//
// Relative positions are part of the product that makes the scores: queries are longer by their row
// and column terms, one for each row and column of keys, keys by ones at their own row and column.
// The terms are themselves a product, of the queries with both tables.

#include "attention.cuh"

#ifdef SAMTRT_HOPPER  // code for sm_90a is compiled, which takes CUDA 12

#include "hopper_host.cuh"
#include "launch.cuh"
#include "window_products.cuh"

namespace samtrt {
namespace hopper_window {
namespace {

// Keys and values of tokens outside the grid, of which the copies left zeros; waits for both.
template <int D, class Square>
__device__ inline void write_padding(Tile const& keys, Tile const& values, Square const& square,
                                     uint64_t* full) {
  constexpr int kVectors = Shape<D>::kVectors, kStep = kThreads / kVectors;
  int const first = threadIdx.x / kVectors, channel = threadIdx.x % kVectors * kVector;
  uint4 const key = square.padding(1, channel), value = square.padding(2, channel);
  wait_for_phase(&full[0], 0);
  wait_for_phase(&full[1], 0);
  for (int token = first; first < kStep && token < kKeys; token += kStep) {
    if (square.token_of(token / kSide, token % kSide) >= 0) continue;
    keys.write(token, channel, key);
    values.write(token, channel, value);
  }
}

template <typename T, int D>
__global__ void __launch_bounds__(kThreads, 2)
    hopper_window_attention_kernel(Problem const problem, __grid_constant__ Maps const maps) {
#ifdef SAMTRT_HAS_WGMMA
  using S = Shape<D>;
  unsigned char* const shared = dynamic_shared();
  Tile const keys{shared + S::kKeysAt, shared + S::kKeysRestAt};
  Tile const values{shared + S::kValuesAt, shared + S::kValuesRestAt};
  Tile const tables{shared + S::kTablesAt, shared + S::kTablesRestAt};
  uint64_t* const full = reinterpret_cast<uint64_t*>(shared + S::kBarriersAt);  // keys, values
  uint64_t* const queries_full = full + 2;                                      // of each group

  // Whole windows come first, since they take longest.
  int const windows = problem.windows, whole = windows - (problem.grid % kSide != 0);
  int const batches = gridDim.z / (windows * windows), number = blockIdx.z / batches;
  int const beyond = number - whole * whole;  // from here on down the right edge, then the bottom
  int const window_row = beyond < 0 ? number / whole : min(beyond, whole);
  int const window_column = beyond < 0 ? number % whole : beyond < whole ? whole : beyond - whole;
  Square<T, Layout<D, kSide, kThreads / 32, 1>> const square(problem, blockIdx.z % batches,
                                                             blockIdx.y, window_row, window_column);
  bool const is_edge = window_column == whole;
  Cut const cut = is_edge ? maps.edge_cut : maps.cut;
  int const rows = min(kSide, problem.grid - square.top);  // that have queries
  int const warp = __shfl_sync(0xffffffffu, threadIdx.x / 32, 0), lane = threadIdx.x % 32,
            group = warp / 4;
  auto const queries_of = [&](int of) {
    return Tile{shared + S::kQueriesAt + of * kQueries * 128,
                shared + S::kQueriesRestAt + of * kQueries * S::kRest};
  };
  auto const fetch = [&](Tile const& to, int part, CUtensorMap const& main, CUtensorMap const& rest,
                         int row, int tokens, uint64_t* barrier) {
    int const channel = (part * problem.heads + square.head) * D;
    expect_bytes(barrier, tokens * D * 2);
    copy_box(to.main, main, channel, square.left, square.top + row, square.batch, barrier);
    if (S::kHasRest) {
      copy_box(to.rest, rest, channel + 64, square.left, square.top + row, square.batch, barrier);
    }
  };
  auto const fetch_queries = [&](int of, int tile) {
    if (tile * cut.rows >= rows) return;
    fetch(queries_of(of), 0, is_edge ? maps.edge : maps.rows,
          is_edge ? maps.edge_rest : maps.rows_rest, tile * cut.rows, cut.columns * cut.rows,
          &queries_full[of]);
  };
  if (threadIdx.x == 0) {
    for (int i = 0; i < 2 + kGroups; ++i) make_barrier(full + i, 1);
    publish_barriers();
    for (int i = 0; i < kGroups; ++i) fetch_queries(i, i);
    fetch(keys, 1, maps.window, maps.window_rest, 0, kKeys, &full[0]);
    fetch(values, 2, maps.window, maps.window_rest, 0, kKeys, &full[1]);
  }

  write_tables<T, D>(tables, problem);
  write_places(shared + S::kPlacesAt);
  // What is no key has weight zero, and zero times what memory happened to hold may be NaN.
  for (int i = threadIdx.x; i < (kSummed - kKeys) * S::kVectors; i += kThreads) {
    int const token = kKeys + i / S::kVectors, channel = i % S::kVectors * kVector;
    if (token < kScored) keys.write(token, channel, make_uint4(0, 0, 0, 0));
    values.write(token, channel, make_uint4(0, 0, 0, 0));
  }
  end_ordinary_accesses();
  __syncthreads();
  if (max(square.top, square.left) + kSide > problem.grid) {
    write_padding<D>(keys, values, square, full);
    end_ordinary_accesses();
    __syncthreads();
  }

  Tile const queries = queries_of(group);
  float const unscale = sqrtf(static_cast<float>(D));
  __half* const terms = reinterpret_cast<__half*>(shared + S::kTermsAt) + warp * kTile * kTermPitch;
  int turn = 0;
#pragma unroll 1
  for (int tile = group; tile * cut.rows < rows; tile += kGroups, ++turn) {
    int const top = tile * cut.rows, start = warp % 4 * kTile;  // this warp's first query
    int const tile_rows = min(cut.rows, rows - top);
    bool const is_idle = cut.row_of(start) >= tile_rows;
    wait_for_phase(&queries_full[group], turn);

    {
      float c[8][4];
      multiply_tables<T, D>(c, queries, tables);
      if (!is_idle) write_terms(terms, c, cut, top, start, unscale);
    }
    __syncwarp();

    wait_for_phase(&full[0], 0);
    unsigned char const* const places = shared + S::kPlacesAt;
    Sums<D> sums;
    Window const window{queries, keys, values, places, terms, full};
    auto const nothing = [] {};
    auto const fetch_next = [&] {
      if ((tile + kGroups) * cut.rows >= rows) return;
      wait_for_group(group);  // which is done with these queries
      if (threadIdx.x % 128 == 0) fetch_queries(group, tile + kGroups);
    };
    // Keys in three blocks; the sums of one follow the scores of the next in the tensor cores.
    Weights<80> first;
    weigh<T, D, 0, 80, 0>(sums, first, nullptr, window, is_idle, nothing);
    wait_for_phase(&full[1], 0);
    Weights<64> second;
    weigh<T, D, 80, 64, 80>(sums, second, first, window, is_idle, nothing);
    Weights<56> third;
    weigh<T, D, 144, 56, 64>(sums, third, second, window, is_idle, fetch_next);
    add_last<T, D, 144, 56>(sums, third, window);

#pragma unroll
    for (int half = 0; half < 2; ++half) {
      int const query = start + lane / 4 + half * 8, row = cut.row_of(query);
      float const scale = 1.f / quad_sum(sums.total[half]);
      int const number = square.token_of(top + row, query - row * cut.columns);
      bool const is_there = number >= 0 && row < tile_rows;
      T* const to = static_cast<T*>(problem.out) +
                    (static_cast<size_t>(max(number, 0)) * problem.heads + square.head) * D;
      write_results<T>(to, is_there, sums.out, half, scale);
      if constexpr (S::kHasRest) write_results<T>(to + 64, is_there, sums.rest, half, scale);
    }
  }
#endif
}

template <typename T, int D>
cudaError_t launch_of(Problem const& problem, int batch, cudaStream_t stream) {
  cuuint64_t const side = problem.grid;
  cuuint64_t const sizes[] = {static_cast<cuuint64_t>(3 * problem.heads * D), side, side,
                              static_cast<cuuint64_t>(batch)};
  Maps maps{};
  cudaError_t error = cudaSuccess;
  auto const describe = [&](CUtensorMap* map, int width, int columns, int rows) {
    cuuint32_t const box[] = {static_cast<cuuint32_t>(width), static_cast<cuuint32_t>(columns),
                              static_cast<cuuint32_t>(rows), 1};
    if (error == cudaSuccess) error = describe_tensor<T>(map, problem.qkv, sizes, box);
  };
  int const edge = problem.grid % kSide;
  maps.cut = Cut::of(kSide);
  maps.edge_cut = Cut::of(edge == 0 ? kSide : edge);
  describe(&maps.window, 64, kSide, kSide);
  describe(&maps.rows, 64, maps.cut.columns, maps.cut.rows);
  describe(&maps.edge, 64, maps.edge_cut.columns, maps.edge_cut.rows);
  if (Shape<D>::kHasRest) {
    describe(&maps.window_rest, 16, kSide, kSide);
    describe(&maps.rows_rest, 16, maps.cut.columns, maps.cut.rows);
    describe(&maps.edge_rest, 16, maps.edge_cut.columns, maps.edge_cut.rows);
  }
  if (error != cudaSuccess) return error;
  dim3 const blocks(1, problem.heads, batch * problem.windows * problem.windows);
  return launch(hopper_window_attention_kernel<T, D>, blocks, kThreads, Shape<D>::kBytes, stream,
                problem, maps);
}

}  // namespace
}  // namespace hopper_window

bool launch_hopper_window_attention(Type type, Problem const& problem, int batch, int head_dim,
                                    int side, cudaStream_t stream, cudaError_t* error) {
  if (side != hopper_window::kSide || (head_dim != 64 && head_dim != 80)) return false;
  if (!is_hopper(error)) return *error != cudaSuccess;
  using namespace hopper_window;
  auto const half = head_dim == 64 ? launch_of<__half, 64> : launch_of<__half, 80>;
  auto const bfloat = head_dim == 64 ? launch_of<__nv_bfloat16, 64> : launch_of<__nv_bfloat16, 80>;
  *error = (type == Type::kHalf ? half : bfloat)(problem, batch, stream);
  return true;
}

}  // namespace samtrt

#else

bool samtrt::launch_hopper_window_attention(Type, Problem const&, int, int, int, cudaStream_t,
                                            cudaError_t*) {
  return false;
}

#endif
