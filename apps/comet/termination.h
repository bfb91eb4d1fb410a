// Termination: SIGTERM and SIGINT as something to wait for. Made before any other thread, which
// then inherit the blocked signals. Before begin_graceful() a signal ends the process at once with
// status 0; after it the first one is waited for, and the second one ends the process at once.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace comet::cli {

class Termination {
 public:
  Termination();
  Termination(const Termination&) = delete;
  Termination& operator=(const Termination&) = delete;
  ~Termination();

  void begin_graceful() { graceful_ = true; }
  /// Until the first signal.
  void wait();

 private:
  void watch();

  std::atomic<bool> graceful_{false};
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable signalled_;
  int num_signals_ = 0;
  std::thread thread_;
};

}  // namespace comet::cli
