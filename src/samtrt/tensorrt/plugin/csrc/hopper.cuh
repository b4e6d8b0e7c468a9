// What the Hopper kernel needs of wgmma and of the copy engine.
#pragma once

#include <cuda.h>

#include "tensor_core.cuh"

#ifdef SAMTRT_EMULATED  // on a CPU, by the tests
#include <emulated_hopper.h>
#endif

// wgmma is of sm_90a alone, not of later GPUs: the compiler says which of its passes this is.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define SAMTRT_HAS_WGMMA
#endif

namespace samtrt {

template <typename T>
constexpr bool kIsHalf = false;
template <>
constexpr bool kIsHalf<__half> = true;

// How the rows of a tile are swizzled, as the field of a descriptor.
enum class Swizzle : uint64_t { k128 = 1, k64 = 2, k32 = 3 };

// Bytes of a row.
template <Swizzle S>
constexpr int kRowBytes = 256 >> static_cast<int>(S);

// A tile of shared memory whose 8 rows, of 128, 64 or 32 bytes, are followed by the next 8;
// swizzled as the copy engine does it.
template <Swizzle S>
__device__ inline uint64_t describe(void const* start) {
  constexpr uint64_t kEightRows = 8 * kRowBytes<S>;
  uint64_t const address = shared_address(start) & 0x3ffff;
  return address >> 4 | 1ull << 16 | kEightRows >> 4 << 32 | static_cast<uint64_t>(S) << 62;
}

// Where a byte of such a tile lies, which begins at a multiple of its 8 rows.
template <Swizzle S>
__device__ inline int swizzled(int row, int byte) {
  int const at = row * kRowBytes<S> + byte;
  return at ^ (at >> 3 & (kRowBytes<S> - 16));
}

#ifndef SAMTRT_EMULATED

// Registers that wgmma reads or writes are complete, and are left alone until the wait.
__device__ inline void begin_products() {
  asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
}

__device__ inline void end_products() {
  asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
}

// Wait until at most `Pending` of the groups of products are under way.
template <int Pending>
__device__ inline void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(Pending) : "memory");
}

// What ordinary instructions did to shared memory comes before what the copy engine and wgmma do
// after the next barrier of threads.
__device__ inline void end_ordinary_accesses() {
  asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
}

// Barriers in shared memory that one warp may reach a turn before another: phase n of a barrier is
// over once `count` warps have arrived n + 1 times.
__device__ inline void make_barrier(uint64_t* barrier, int count) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;\n" ::"r"(shared_address(barrier)), "r"(count)
               : "memory");
}

// Have barriers made before the copy engine uses them; a barrier of threads follows.
__device__ inline void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
}

// One arrival, and as many bytes to come from the copy engine before the phase is over.
__device__ inline void expect_bytes(uint64_t* barrier, int bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(shared_address(barrier)),
      "r"(bytes)
      : "memory");
}

// A box of a matrix in memory to shared memory, by the copy engine; counts on `barrier`.
__device__ inline void copy_box(void* to, CUtensorMap const& matrix, int column, int row,
                                uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3}], [%4];\n" ::"r"(shared_address(to)),
      "l"(&matrix), "r"(column), "r"(row), "r"(shared_address(barrier))
      : "memory");
}

// The same of a [batch, y, x, channel] tensor.
__device__ inline void copy_box(void* to, CUtensorMap const& tensor, int channel, int x, int y,
                                int batch, uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3, %4, %5}], [%6];\n" ::"r"(shared_address(to)),
      "l"(&tensor), "r"(channel), "r"(x), "r"(y), "r"(batch), "r"(shared_address(barrier))
      : "memory");
}

// Wait for the four warps of a group; groups are numbered from 0.
__device__ inline void wait_for_group(int group) {
  asm volatile("bar.sync %0, 128;\n" ::"r"(group + 1) : "memory");  // 0 is __syncthreads
}

// Wait for so many threads of the block; not beside wait_for_group, whose first barrier this is.
template <int Threads>
__device__ inline void wait_for_some() {
  asm volatile("bar.sync 1, %0;\n" ::"n"(Threads) : "memory");
}

// Change how many registers the threads of a group have.
template <int Registers>
__device__ inline void more_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(Registers));
}

template <int Registers>
__device__ inline void fewer_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(Registers));
}

__device__ inline void arrive(uint64_t* barrier) {
  __syncwarp();
  if (threadIdx.x % 32 == 0) {
    asm volatile("mbarrier.arrive.shared.b64 _, [%0];\n" ::"r"(shared_address(barrier)) : "memory");
  }
}

__device__ inline void wait_for_phase(uint64_t* barrier, int phase) {
  uint32_t over = 0;
  while (over == 0) {
    asm volatile(
        "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}\n"
        : "=r"(over)
        : "r"(shared_address(barrier)), "r"(phase % 2)
        : "memory");
  }
}

// A product's accumulator c of so many tiles of 8 columns: its operands, and their names.
#define SAMTRT_TILE(n) "+f"(c[n][0]), "+f"(c[n][1]), "+f"(c[n][2]), "+f"(c[n][3])
#define SAMTRT_TILES_2 SAMTRT_TILE(0), SAMTRT_TILE(1)
#define SAMTRT_TILES_7 \
  SAMTRT_TILES_2, SAMTRT_TILE(2), SAMTRT_TILE(3), SAMTRT_TILE(4), SAMTRT_TILE(5), SAMTRT_TILE(6)
#define SAMTRT_TILES_8 SAMTRT_TILES_7, SAMTRT_TILE(7)
#define SAMTRT_TILES_10 SAMTRT_TILES_8, SAMTRT_TILE(8), SAMTRT_TILE(9)
#define SAMTRT_TILES_16                                                                \
  SAMTRT_TILES_10, SAMTRT_TILE(10), SAMTRT_TILE(11), SAMTRT_TILE(12), SAMTRT_TILE(13), \
      SAMTRT_TILE(14), SAMTRT_TILE(15)
#define SAMTRT_NAMES_2 "%0, %1, %2, %3, %4, %5, %6, %7"
#define SAMTRT_NAMES_7                                 \
  SAMTRT_NAMES_2                                       \
  ", %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, " \
  "%18, %19, %20, %21, %22, %23, %24, %25, %26, %27"
#define SAMTRT_NAMES_8 SAMTRT_NAMES_7 ", %28, %29, %30, %31"
#define SAMTRT_NAMES_10 SAMTRT_NAMES_8 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define SAMTRT_NAMES_16                                            \
  SAMTRT_NAMES_10                                                  \
  ", %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, " \
  "%52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

// One product with `COLUMNS` columns, 8 times `TILES`; what comes behind the accumulator is said by
// `REST`, and given.
#define SAMTRT_WGMMA(COLUMNS, TYPE, TILES, REST, ...)                               \
  asm volatile("wgmma.mma_async.sync.aligned.m64n" COLUMNS "k16.f32." TYPE "." TYPE \
               " {" SAMTRT_NAMES_##TILES "}, " REST ";\n"                           \
               : SAMTRT_TILES_##TILES                                               \
               : __VA_ARGS__)
// The same where the first factor is in the registers of four warps.
#define SAMTRT_WGMMA_OF(COLUMNS, TYPE, TILES, REST) \
  SAMTRT_WGMMA(COLUMNS, TYPE, TILES, REST, "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))

// c += a @ b for a [64, 16] in the registers of four warps and b [16, 64] as `describe` says. The
// rows of its tile are b's columns, unless `Transposed`: then they are b's rows.
template <typename T, bool Transposed>
__device__ inline void multiply_async(float (&c)[8][4], uint32_t const (&a)[4], uint64_t b) {
  if constexpr (kIsHalf<T>) {
    if constexpr (Transposed) {
      SAMTRT_WGMMA_OF("64", "f16", 8, "{%32, %33, %34, %35}, %36, 1, 1, 1, 1");
    } else {
      SAMTRT_WGMMA_OF("64", "f16", 8, "{%32, %33, %34, %35}, %36, 1, 1, 1, 0");
    }
  } else {
    if constexpr (Transposed) {
      SAMTRT_WGMMA_OF("64", "bf16", 8, "{%32, %33, %34, %35}, %36, 1, 1, 1, 1");
    } else {
      SAMTRT_WGMMA_OF("64", "bf16", 8, "{%32, %33, %34, %35}, %36, 1, 1, 1, 0");
    }
  }
}

// The same for b [16, 16], transposed.
template <typename T>
__device__ inline void multiply_async(float (&c)[2][4], uint32_t const (&a)[4], uint64_t b) {
  if constexpr (kIsHalf<T>) {
    SAMTRT_WGMMA_OF("16", "f16", 2, "{%8, %9, %10, %11}, %12, 1, 1, 1, 1");
  } else {
    SAMTRT_WGMMA_OF("16", "bf16", 2, "{%8, %9, %10, %11}, %12, 1, 1, 1, 1");
  }
}

#endif

}  // namespace samtrt
