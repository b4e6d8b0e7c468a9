// A linear layer and GELU for Hopper (compute capability 9.0): one warp asks the copy engine for
// tiles of both operands, two groups of four warps multiply by wgmma. Two thread blocks share a
// multiprocessor, so that one multiplies while the other does its GELU.

#include "linear_gelu.cuh"

#ifdef SAMTRT_HOPPER  // code for sm_90a is compiled, which takes CUDA 12

#include "gelu.cuh"
#include "hopper.cuh"
#include "hopper_host.cuh"
#include "launch.cuh"

// wgmma is of sm_90a alone, not of later GPUs: the compiler says which of its passes this is.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define SAMTRT_HAS_WGMMA
#endif

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

#define SAMTRT_WGMMA_128(TYPE)                                                                     \
  asm volatile(                                                                                    \
      "wgmma.mma_async.sync.aligned.m64n128k16.f32." TYPE "." TYPE                                 \
      " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, "    \
      "%19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, " \
      "%37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, " \
      "%55, %56, %57, %58, %59, %60, %61, %62, %63}, %64, %65, 1, 1, 1, 0, 0;\n"                   \
      : "+f"(c[0][0]), "+f"(c[0][1]), "+f"(c[0][2]), "+f"(c[0][3]), "+f"(c[1][0]), "+f"(c[1][1]),  \
        "+f"(c[1][2]), "+f"(c[1][3]), "+f"(c[2][0]), "+f"(c[2][1]), "+f"(c[2][2]), "+f"(c[2][3]),  \
        "+f"(c[3][0]), "+f"(c[3][1]), "+f"(c[3][2]), "+f"(c[3][3]), "+f"(c[4][0]), "+f"(c[4][1]),  \
        "+f"(c[4][2]), "+f"(c[4][3]), "+f"(c[5][0]), "+f"(c[5][1]), "+f"(c[5][2]), "+f"(c[5][3]),  \
        "+f"(c[6][0]), "+f"(c[6][1]), "+f"(c[6][2]), "+f"(c[6][3]), "+f"(c[7][0]), "+f"(c[7][1]),  \
        "+f"(c[7][2]), "+f"(c[7][3]), "+f"(c[8][0]), "+f"(c[8][1]), "+f"(c[8][2]), "+f"(c[8][3]),  \
        "+f"(c[9][0]), "+f"(c[9][1]), "+f"(c[9][2]), "+f"(c[9][3]), "+f"(c[10][0]),                \
        "+f"(c[10][1]), "+f"(c[10][2]), "+f"(c[10][3]), "+f"(c[11][0]), "+f"(c[11][1]),            \
        "+f"(c[11][2]), "+f"(c[11][3]), "+f"(c[12][0]), "+f"(c[12][1]), "+f"(c[12][2]),            \
        "+f"(c[12][3]), "+f"(c[13][0]), "+f"(c[13][1]), "+f"(c[13][2]), "+f"(c[13][3]),            \
        "+f"(c[14][0]), "+f"(c[14][1]), "+f"(c[14][2]), "+f"(c[14][3]), "+f"(c[15][0]),            \
        "+f"(c[15][1]), "+f"(c[15][2]), "+f"(c[15][3])                                             \
      : "l"(a), "l"(b))

// c += a @ b' for a [64, 16] and b [128, 16] as `describe` says, by four warps.
template <typename T>
__device__ inline void multiply_tiles_async(float (&c)[kTilesOfRow][4], uint64_t a, uint64_t b) {
  if constexpr (kIsHalf<T>) {
    SAMTRT_WGMMA_128("f16");
  } else {
    SAMTRT_WGMMA_128("bf16");
  }
}

#undef SAMTRT_WGMMA_128

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
      multiply_tiles_async<T>(c, describe<Swizzle::k128>(a + k), describe<Swizzle::k128>(b + k));
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
  int processors = 0;
  if (!is_hopper(&processors, error)) return *error != cudaSuccess;
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
