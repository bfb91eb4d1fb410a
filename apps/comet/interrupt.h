// Interrupt: Ctrl-C (SIGINT) and SIGTERM as a question that long work asks between its steps. Made
// before any other thread, which then inherit the blocked signals. Until begin_steps() a signal
// ends the process at once with status 1; after it the first one is kept for requested(), and the
// second one ends the process.
#pragma once

#include <atomic>
#include <string>
#include <thread>

namespace comet::cli {

class Interrupt {
 public:
  Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;
  ~Interrupt();

  /// `note` is printed on stderr at the first signal: what happens now.
  void begin_steps(std::string note);
  [[nodiscard]] bool requested() const { return requested_; }

 private:
  void watch();

  std::string note_;  // written before stepping_ is set, then only read
  std::atomic<bool> stepping_{false};
  std::atomic<bool> requested_{false};
  std::atomic<bool> ending_{false};
  std::thread thread_;
};

}  // namespace comet::cli
