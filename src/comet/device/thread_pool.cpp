#include "comet/device/thread_pool.h"

#include <immintrin.h>

#include <utility>

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
  COMET_CHECK(num_tasks < int64_t{1} << 31, "{} tasks", num_tasks);
  fn_ = fn;
  data_ = data;
  failed_ = false;
  num_done_.store(0, std::memory_order_relaxed);
  tickets_.store(static_cast<uint64_t>(num_tasks) << 32, std::memory_order_release);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  take_tasks(0);
  // Waits for tasks, not for workers: one that the system has not woken yet delays nothing.
  int64_t done = num_done_.load(std::memory_order_acquire);
  for (int spin = 0; done != num_tasks; ++spin) {
    if (spin < kSpins) {
      _mm_pause();
    } else {
      num_done_.wait(done, std::memory_order_acquire);
    }
    done = num_done_.load(std::memory_order_acquire);
  }
  if (failed_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void ThreadPool::take_tasks(int thread_idx) {
  for (;;) {
    const uint64_t ticket = tickets_.fetch_add(1, std::memory_order_acquire);
    const auto num_tasks = static_cast<int64_t>(ticket >> 32);
    const auto task_idx = static_cast<int64_t>(ticket & 0xFFFFFFFFU);
    if (task_idx >= num_tasks) return;
    try {
      fn_(data_, task_idx, thread_idx);
    } catch (...) {
      if (!failed_.exchange(true)) failure_ = std::current_exception();
    }
    if (num_done_.fetch_add(1, std::memory_order_acq_rel) + 1 == num_tasks) num_done_.notify_one();
  }
}

void ThreadPool::work(int thread_idx) {
  uint32_t seen = 0;
  for (;;) {
    uint32_t now = epoch_.load(std::memory_order_acquire);
    for (int spin = 0; now == seen; ++spin) {
      if (spin < kSpins) {
        _mm_pause();
      } else {
        epoch_.wait(seen, std::memory_order_acquire);
      }
      now = epoch_.load(std::memory_order_acquire);
    }
    seen = now;
    if (stopping_) return;
    take_tasks(thread_idx);
  }
}

}  // namespace comet
