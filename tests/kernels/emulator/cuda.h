// The little of CUDA's driver that our kernels use, on a CPU: descriptions of tensors for Hopper's
// copy engine.
#pragma once

#include <cstdint>

using cuuint32_t = uint32_t;
using cuuint64_t = uint64_t;

enum CUresult { CUDA_SUCCESS = 0, CUDA_ERROR_INVALID_VALUE = 1 };
enum CUtensorMapDataType { CU_TENSOR_MAP_DATA_TYPE_FLOAT16, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 };
enum CUtensorMapInterleave { CU_TENSOR_MAP_INTERLEAVE_NONE };
enum CUtensorMapSwizzle { CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_SWIZZLE_32B };
enum CUtensorMapL2promotion { CU_TENSOR_MAP_L2_PROMOTION_L2_256B };
enum CUtensorMapFloatOOBfill { CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE };

struct CUtensorMap {
  static constexpr int kMostSizes = 5;
  unsigned char const* start;
  int rank, swizzle;            // bytes of a box's rows
  int64_t sizes[kMostSizes];    // the first one's values follow one another
  int64_t strides[kMostSizes];  // in bytes
  int box[kMostSizes];
};

// Refuses what the driver refuses of it.
inline CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType, cuuint32_t rank,
                                       void* start, cuuint64_t const* sizes,
                                       cuuint64_t const* strides, cuuint32_t const* box,
                                       cuuint32_t const* steps, CUtensorMapInterleave,
                                       CUtensorMapSwizzle swizzle, CUtensorMapL2promotion,
                                       CUtensorMapFloatOOBfill) {
  *map = {static_cast<unsigned char*>(start), static_cast<int>(rank),
          swizzle == CU_TENSOR_MAP_SWIZZLE_128B ? 128 : 32};
  bool good = rank >= 1 && rank <= CUtensorMap::kMostSizes &&
              reinterpret_cast<uintptr_t>(start) % 16 == 0 &&
              static_cast<int>(box[0] * 2) <= map->swizzle;
  for (cuuint32_t i = 0; good && i < rank; ++i) {
    map->sizes[i] = static_cast<int64_t>(sizes[i]);
    map->strides[i] = i == 0 ? 2 : static_cast<int64_t>(strides[i - 1]);
    map->box[i] = static_cast<int>(box[i]);
    good = box[i] >= 1 && box[i] <= 256 && steps[i] == 1 && sizes[i] >= 1 &&
           (i == 0 || map->strides[i] % 16 == 0);
  }
  return good ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
