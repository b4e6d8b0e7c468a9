// The little of CUDA's runtime and language that our kernels use, on a CPU: see emulator.h.
#pragma once

#include "emulator.h"

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1 };
using cudaStream_t = void*;

inline char const* cudaGetErrorString(cudaError_t) { return "an emulated error"; }
