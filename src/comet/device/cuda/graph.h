// CudaGraph: launches recorded once and started by one call. CudaEvent: a point in a stream, for
// times. Callers: the engine's decode steps and the benches. What is captured may not allocate,
// synchronize or copy from pageable memory, and its pointers must stay valid.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <utility>

namespace comet {

class CudaGraph {
 public:
  CudaGraph() = default;
  CudaGraph(CudaGraph&& other) noexcept : exec_(std::exchange(other.exec_, nullptr)) {}
  CudaGraph& operator=(CudaGraph&& other) noexcept {
    std::swap(exec_, other.exec_);
    return *this;
  }
  ~CudaGraph();

  /// What `launches` puts into `stream`, without running it. When it throws, the capture ends and
  /// the error goes on.
  static CudaGraph capture(cudaStream_t stream, const std::function<void()>& launches);

  [[nodiscard]] bool defined() const { return exec_ != nullptr; }
  void launch(cudaStream_t stream) const;

 private:
  cudaGraphExec_t exec_ = nullptr;
};

class CudaEvent {
 public:
  CudaEvent();
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;
  ~CudaEvent();

  void record(cudaStream_t stream);
  /// Blocks the host until the stream has passed this point.
  void wait() const;
  /// Time on the device since `start`, which was recorded before; waits for this one.
  [[nodiscard]] double us_since(const CudaEvent& start) const;

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace comet
