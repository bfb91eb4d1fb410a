// COMET_CUDA: a CUDA call that must succeed; its failure throws CudaError. Callers: host files of
// the CUDA backend (*.cu, *_cuda.cpp). Not included by files that a CPU-only build compiles.
#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace comet {

/// A CUDA call failed. Most codes are sticky: the process can only report and end.
class CudaError : public std::runtime_error {
 public:
  CudaError(cudaError_t error, const std::string& what) : std::runtime_error(what), code(error) {}
  cudaError_t code;
};

/// Throws CudaError "cudaMalloc(...) at file:line: out of memory (cudaErrorMemoryAllocation)".
[[noreturn]] void throw_cuda_error(cudaError_t error, const char* call, const char* file, int line);

}  // namespace comet

#define COMET_CUDA(call)                                                      \
  do {                                                                        \
    const cudaError_t comet_cuda_error = (call);                              \
    if (comet_cuda_error != cudaSuccess) {                                    \
      ::comet::throw_cuda_error(comet_cuda_error, #call, __FILE__, __LINE__); \
    }                                                                         \
  } while (false)
