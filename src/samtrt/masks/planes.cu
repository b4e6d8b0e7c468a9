// Planes of low-res logits as they are: cut to limits, and their cells counted.
//
// `logits` holds planes of `cells` values; `planes` names those to work on, blockIdx.y counts them.

__device__ inline float const* plane_of(float const* logits, int const* planes, int cells) {
  return logits + static_cast<long long>(planes[blockIdx.y]) * cells;
}

// Write the planes to out [K, cells], no value beyond -limit .. limit. What is no number stays so.
extern "C" __global__ void __launch_bounds__(256)
    limit_planes(float const* logits, int const* planes, int cells, float limit, float* out) {
  float const* const plane = plane_of(logits, planes, cells);
  float* const mine = out + static_cast<long long>(blockIdx.y) * cells;
  for (int i = blockIdx.x * 256 + threadIdx.x; i < cells; i += gridDim.x * 256) {
    float const value = plane[i];
    mine[i] = value > limit ? limit : value < -limit ? -limit : value;
  }
}

// Count each plane's cells above two limits: counts [K, 2], zeros before.
extern "C" __global__ void __launch_bounds__(256)
    count_cells(float const* logits, int const* planes, int cells, float first, float second,
                int* counts) {
  float const* const plane = plane_of(logits, planes, cells);
  int above_first = 0, above_second = 0;
  for (int i = blockIdx.x * 256 + threadIdx.x; i < cells; i += gridDim.x * 256) {
    float const value = plane[i];
    above_first += value > first;
    above_second += value > second;
  }
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    above_first += __shfl_xor_sync(~0u, above_first, lanes);
    above_second += __shfl_xor_sync(~0u, above_second, lanes);
  }
  if (threadIdx.x % 32 != 0) return;
  atomicAdd(counts + blockIdx.y * 2, above_first);
  atomicAdd(counts + blockIdx.y * 2 + 1, above_second);
}
