// WorkerPool: threads for what must not hold up the I/O thread: parsing large bodies, templates,
// tokenization. Used by Service only.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace comet::server {

class WorkerPool {
 public:
  explicit WorkerPool(int num_threads);
  /// Runs what was posted, then joins.
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  /// Any thread. `task` must not throw.
  void post(std::function<void()> task);
  /// Waits until nothing is posted or running.
  void wait_idle();

 private:
  void work();

  std::mutex mutex_;
  std::condition_variable posted_;
  std::condition_variable idle_;
  std::deque<std::function<void()>> tasks_;
  size_t num_running_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace comet::server
