// A linear layer and GELU for Hopper (compute capability 9.0): one warp asks the copy engine for
// tiles of both operands, two groups of four warps multiply by wgmma. Two thread blocks share a
// multiprocessor, so that one multiplies while the other does its GELU.

#include "linear_gelu.cuh"

#ifdef SAMTRT_HOPPER  // code for sm_90a is compiled, which takes CUDA 12

#include "gelu.cuh"
#include "hopper_host.cuh"
#include "hopper_products.cuh"
#include "launch.cuh"

namespace samtrt {
namespace {

constexpr int kTile = 128;  // rows, and columns, of a thread block
constexpr int kStep = 64;   // channels of one stage: rows of 128 bytes
constexpr int kStages = 3;
constexpr int kGroups = 2;  // of four warps, 64 rows each
constexpr int kConsumers = kGroups * 4;
constexpr int kThreads = (kConsumers + 1) * 32;
constexpr int kOperand = kTile * kStep;
constexpr int kStageBytes = 2 * kOperand * 2;
constexpr int kBytes = kStages * kStageBytes + 2 * kStages * 8;
constexpr int kResultPitch = kTile + 8;
constexpr int kTilesOfRow = kTile / 8;

static_assert(kConsumers * 16 * kResultPitch * 2 <= kStages * kStageBytes, "results fit in");

template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    hopper_linear_gelu_kernel(__grid_constant__ CUtensorMap const x,
                              __grid_constant__ CUtensorMap const weight, float const* bias, T* y,
                              int steps, int outputs) {
#ifdef SAMTRT_HAS_WGMMA
  unsigned char* const shared = dynamic_shared();
  T* const stages = reinterpret_cast<T*>(shared);
  uint64_t* const full = reinterpret_cast<uint64_t*>(shared + kStages * kStageBytes);
  uint64_t* const done = full + kStages;
  int const warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int const first_row = blockIdx.y * kTile, first_column = blockIdx.x * kTile;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      make_barrier(full + i, 1);
      make_barrier(done + i, kConsumers);
    }
    publish_barriers();
  }
  __syncthreads();

  if (warp == kConsumers) {
    if (lane == 0) {
      for (int step = 0; step < steps; ++step) {
        int const stage = step % kStages, turn = step / kStages;
        if (turn > 0) wait_for_phase(&done[stage], turn - 1);
        expect_bytes(&full[stage], kStageBytes);
        T* const to = stages + stage * 2 * kOperand;
        copy_box(to, x, step * kStep, first_row, &full[stage]);
        copy_box(to + kOperand, weight, step * kStep, first_column, &full[stage]);
      }
    }
    __syncwarp();
    __syncthreads();  // with the others, below
    return;
  }

  float c[kTilesOfRow][4];
#pragma unroll
  for (int n = 0; n < kTilesOfRow; ++n) {
    float2 const start =
        *reinterpret_cast<float2 const*>(bias + first_column + n * 8 + lane % 4 * 2);
    c[n][0] = c[n][2] = start.x;
    c[n][1] = c[n][3] = start.y;
  }
  int const group = warp / 4;
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    int const stage = step % kStages;
    wait_for_phase(&full[stage], step / kStages);
    T* const a = stages + stage * 2 * kOperand + group * 64 * kStep;
    T* const b = stages + stage * 2 * kOperand + kOperand;
    begin_products();
#pragma unroll
    for (int k = 0; k < kStep; k += 16) {
      multiply_shared_async<T, 1>(c, describe<Swizzle::k128>(a + k),
                                  describe<Swizzle::k128>(b + k));
    }
    end_products();
    // The products of the step before are complete, whose stage may be filled again.
    wait_for_products<1>();
    if (step > 0) arrive(&done[(step - 1) % kStages]);
  }
  wait_for_products<0>();
  __syncthreads();  // every warp is done with the stages, where results go now

  T* const results = stages + warp * 16 * kResultPitch;
#pragma unroll
  for (int n = 0; n < kTilesOfRow; ++n) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      T* const to = results + (lane / 4 + half * 8) * kResultPitch + n * 8 + lane % 4 * 2;
      *reinterpret_cast<uint32_t*>(to) = pack<T>(gelu(c[n][2 * half]), gelu(c[n][2 * half + 1]));
    }
  }
  __syncwarp();
  constexpr int kVectors = kTile / kVector;
#pragma unroll
  for (int i = 0; i < 16 * kVectors / 32; ++i) {
    int const vector = i * 32 + lane, row = vector / kVectors, column = vector % kVectors * kVector;
    size_t const at = static_cast<size_t>(first_row + warp * 16 + row) * outputs;
    *reinterpret_cast<uint4*>(y + at + first_column + column) =
        *reinterpret_cast<uint4 const*>(results + row * kResultPitch + column);
  }
#endif
}

template <typename T>
cudaError_t launch_of(void const* x, void const* weight, float const* bias, void* y, int rows,
                      int inputs, int outputs, cudaStream_t stream) {
  CUtensorMap x_map{}, weight_map{};
  cudaError_t error = describe_rows<T>(&x_map, x, rows, inputs, kStep, kTile);
  if (error == cudaSuccess) {
    error = describe_rows<T>(&weight_map, weight, outputs, inputs, kStep, kTile);
  }
  if (error != cudaSuccess) return error;
  dim3 const blocks(outputs / kTile, rows / kTile);
  return launch(hopper_linear_gelu_kernel<T>, blocks, kThreads, kBytes, stream, x_map, weight_map,
                bias, static_cast<T*>(y), inputs / kStep, outputs);
}

}  // namespace

bool launch_hopper_linear_gelu(Type type, void const* x, void const* weight, float const* bias,
                               void* y, int rows, int inputs, int outputs, cudaStream_t stream,
                               cudaError_t* error) {
  if (rows % kTile != 0) return false;
  if (!is_hopper(error)) return *error != cudaSuccess;
  auto const run = type == Type::kHalf ? launch_of<__half> : launch_of<__nv_bfloat16>;
  *error = run(x, weight, bias, y, rows, inputs, outputs, stream);
  return true;
}

}  // namespace samtrt

#else

bool samtrt::launch_hopper_linear_gelu(Type, void const*, void const*, float const*, void*, int,
                                       int, int, cudaStream_t, cudaError_t*) {
  return false;
}

#endif
