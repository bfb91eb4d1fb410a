// The one compute thread pool. parallel_for splits [0, count) into tasks that threads take in turn;
// which thread runs a task must not change any result. Allocates nothing per call.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <thread>
#include <vector>

namespace comet {

class ThreadPool {
 public:
  /// `num_threads` counts the caller: 1 runs everything inline.
  explicit ThreadPool(int num_threads);
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool();

  [[nodiscard]] int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  /// Calls body(task_idx, thread_idx) for every task in [0, num_tasks); returns when all are done.
  /// thread_idx < num_threads() names per-thread scratch. The first exception thrown is rethrown
  /// here. Not reentrant: a body may not call parallel_for.
  template <typename Body>
  void parallel_for(int64_t num_tasks, Body&& body) {
    using Fn = std::remove_reference_t<Body>;
    run(
        num_tasks,
        [](void* data, int64_t task_idx, int thread_idx) {
          (*static_cast<Fn*>(data))(task_idx, thread_idx);
        },
        const_cast<std::remove_const_t<Fn>*>(&body));
  }

 private:
  using TaskFn = void (*)(void* data, int64_t task_idx, int thread_idx);
  void run(int64_t num_tasks, TaskFn fn, void* data);
  void work(int thread_idx);
  void take_tasks(int thread_idx);

  std::vector<std::thread> workers_;
  // The present job. Written while no task is outstanding; read by whoever holds a task of it.
  TaskFn fn_ = nullptr;
  void* data_ = nullptr;
  std::exception_ptr failure_;
  std::atomic<bool> failed_{false};
  // The job's number of tasks (high half) and the next one to take (low half) in one word: a thread
  // that comes late can only get a task of the job that is on now, or none.
  alignas(64) std::atomic<uint64_t> tickets_{0};
  alignas(64) std::atomic<int64_t> num_done_{0};
  alignas(64) std::atomic<uint32_t> epoch_{0};  // jobs started: what idle workers watch
  std::atomic<bool> stopping_{false};
};

}  // namespace comet
