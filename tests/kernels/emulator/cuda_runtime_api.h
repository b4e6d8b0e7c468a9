// The little of CUDA's runtime and language that our kernels use, on a CPU: see emulator.h.
#pragma once

#include <cuda.h>

#include "emulator.h"

#define CUDART_VERSION 13000

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorNotSupported = 801,
  cudaErrorSymbolNotFound = 500
};
using cudaStream_t = void*;

inline char const* cudaGetErrorString(cudaError_t) { return "an emulated error"; }

enum cudaDeviceAttr { cudaDevAttrComputeCapabilityMajor, cudaDevAttrComputeCapabilityMinor };

inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrComputeCapabilityMajor ? emulator::compute_capability : 0;
  return cudaSuccess;
}

enum cudaDriverEntryPointQueryResult { cudaDriverEntryPointSuccess };
constexpr int cudaEnableDefault = 0;

inline cudaError_t cudaGetDriverEntryPointByVersion(char const*, void** function, int, int,
                                                    cudaDriverEntryPointQueryResult*) {
  *function = reinterpret_cast<void*>(&cuTensorMapEncodeTiled);  // the one that is asked for
  return cudaSuccess;
}
