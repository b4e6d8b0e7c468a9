// A GPU's thread block on one CPU thread, to test CUDA kernels for what they compute.
//
// Every CUDA thread is a fiber that runs until it must wait for others: at a barrier, or where a
// warp does something together. Blocks follow one another. Shared memory is filled with NaNs before
// each block. What the compiler alone knows of (registers, occupancy) and what hardware does at the
// same time (races between barriers) is not seen.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>

#define __device__
#define __global__
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ static  // one thread block runs at a time
#define __align__(bytes) alignas(bytes)

using std::max;
using std::min;

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float rsqrtf(float x) { return 1.f / std::sqrt(x); }

namespace emulator {

constexpr int kWarp = 32, kGroup = 4 * kWarp;

// The major version of the GPU that is emulated: 9 has Hopper's kernels too.
extern int compute_capability;

// Of the fiber that runs.
extern dim3 thread_index, block_index, grid_size;
extern unsigned char* shared_memory;
extern std::size_t shared_bytes;

// Wait for every thread of the block.
void wait_for_block();

// Wait for so many threads, whichever come.
void wait_for_threads(int count);

// Meet the warp's other lanes; the last to come does `work` for all, given each lane's `mine`.
using Work = void (*)(void* const (&lanes)[kWarp]);
void together(void* mine, Work work);

// The same for four warps.
using GroupWork = void (*)(void* const (&lanes)[kGroup]);
void together_in_group(void* mine, GroupWork work);

// For loops that wait for what other threads do.
void let_others_run();

// Run a kernel's body, once for every thread of every block. Aborts where threads wait for one
// another for ever.
void run(dim3 blocks, int threads, std::size_t shared, std::function<void()> const& body);

}  // namespace emulator

#define threadIdx emulator::thread_index
#define blockIdx emulator::block_index
#define gridDim emulator::grid_size

inline void __syncthreads() { emulator::wait_for_block(); }
inline void __syncwarp() {
  emulator::together(nullptr, [](void* const(&)[emulator::kWarp]) {});
}

template <class T>
struct Exchange {
  T in, out;
  int from;
};
template <class T>
T __shfl_sync(unsigned, T value, int from) {
  Exchange<T> mine{value, T(), from};
  emulator::together(&mine, [](void* const(&lanes)[emulator::kWarp]) {
    for (void* const lane : lanes) {
      auto* const to = static_cast<Exchange<T>*>(lane);
      to->out = static_cast<Exchange<T>*>(lanes[to->from])->in;
    }
  });
  return mine.out;
}
template <class T>
T __shfl_xor_sync(unsigned all, T value, int mask) {
  return __shfl_sync(all, value, static_cast<int>(threadIdx.x % emulator::kWarp) ^ mask);
}

inline int atomicAdd(int* at, int value) {
  int const before = *at;
  *at += value;
  return before;
}
inline int atomicMax(int* at, int value) {
  int const before = *at;
  *at = max(before, value);
  return before;
}
