#include "comet/device/cuda/graph.h"

#include "comet/base/check.h"
#include "comet/device/cuda/cuda_check.h"

namespace comet {

CudaGraph::~CudaGraph() {
  if (exec_ != nullptr) cudaGraphExecDestroy(exec_);
}

CudaGraph CudaGraph::capture(cudaStream_t stream, const std::function<void()>& launches) {
  cudaGraph_t graph = nullptr;
  // Other threads may go on with calls that a capture forbids.
  COMET_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  try {
    launches();
  } catch (...) {
    cudaStreamEndCapture(stream, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();  // a capture that was broken off, which the thrown error explains
    throw;
  }
  COMET_CUDA(cudaStreamEndCapture(stream, &graph));
  CudaGraph result;
  const cudaError_t error = cudaGraphInstantiate(&result.exec_, graph, 0);
  cudaGraphDestroy(graph);
  COMET_CUDA(error);
  return result;
}

void CudaGraph::launch(cudaStream_t stream) const {
  COMET_CHECK(defined());
  COMET_CUDA(cudaGraphLaunch(exec_, stream));
}

CudaEvent::CudaEvent() { COMET_CUDA(cudaEventCreate(&event_)); }

CudaEvent::~CudaEvent() { cudaEventDestroy(event_); }

void CudaEvent::record(cudaStream_t stream) { COMET_CUDA(cudaEventRecord(event_, stream)); }

void CudaEvent::wait() const { COMET_CUDA(cudaEventSynchronize(event_)); }

double CudaEvent::us_since(const CudaEvent& start) const {
  wait();
  float ms = 0;
  COMET_CUDA(cudaEventElapsedTime(&ms, start.event_, event_));
  return static_cast<double>(ms) * 1e3;
}

}  // namespace comet
