#include "comet/device/thread_pool.h"

#include <immintrin.h>

#include "comet/base/check.h"

namespace comet {
namespace {

// A decode step has a parallel region every few hundred microseconds: spinning that long before
// sleeping keeps the wake-up (tens of microseconds) off its path.
constexpr int kSpins = 20000;

}  // namespace

ThreadPool::ThreadPool(int num_threads) {
  COMET_CHECK(num_threads >= 1, "{} threads", num_threads);
  for (int i = 1; i < num_threads; ++i) workers_.emplace_back([this, i] { work(i); });
}

ThreadPool::~ThreadPool() {
  stopping_ = true;
  epoch_.fetch_add(1);
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(int64_t num_tasks, TaskFn fn, void* data) {
  if (workers_.empty() || num_tasks <= 1) {
    for (int64_t i = 0; i < num_tasks; ++i) fn(data, i, 0);
    return;
  }
  fn_ = fn;
  data_ = data;
  num_tasks_ = num_tasks;
  failed_ = false;
  next_task_ = 0;
  num_running_ = static_cast<int>(workers_.size());
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  take_tasks(0);
  for (int spin = 0; num_running_.load(std::memory_order_acquire) != 0; ++spin) {
    if (spin < kSpins) {
      _mm_pause();
    } else {
      const int running = num_running_.load(std::memory_order_acquire);
      if (running != 0) num_running_.wait(running);
    }
  }
  if (failed_) std::rethrow_exception(failure_);
}

void ThreadPool::take_tasks(int thread_idx) {
  for (;;) {
    const int64_t task_idx = next_task_.fetch_add(1, std::memory_order_relaxed);
    if (task_idx >= num_tasks_) return;
    try {
      fn_(data_, task_idx, thread_idx);
    } catch (...) {
      if (!failed_.exchange(true)) failure_ = std::current_exception();
    }
  }
}

void ThreadPool::work(int thread_idx) {
  uint32_t seen = 0;
  for (;;) {
    for (int spin = 0; epoch_.load(std::memory_order_acquire) == seen; ++spin) {
      if (spin < kSpins) {
        _mm_pause();
      } else {
        epoch_.wait(seen);
      }
    }
    ++seen;
    if (stopping_) return;
    take_tasks(thread_idx);
    if (num_running_.fetch_sub(1, std::memory_order_acq_rel) == 1) num_running_.notify_one();
  }
}

}  // namespace comet
