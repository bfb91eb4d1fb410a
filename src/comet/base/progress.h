// Progress on stderr: a bar with time left on a terminal, a plain line every few seconds otherwise.
#pragma once

#include <cstdint>
#include <string>

#include "comet/base/clock.h"

namespace comet {

/// "42 s", "3 min 07 s", "2 h 15 min".
std::string duration_text(double seconds);

class Progress {
 public:
  /// `unit` names what is counted ("layers", "tokens"). Nothing is printed when `quiet`.
  Progress(std::string label, int64_t total, std::string unit, bool quiet = false);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();

  void advance(int64_t count, const std::string& note = "");

 private:
  void print(bool last);

  std::string label_;
  std::string unit_;
  std::string note_;
  int64_t total_;
  int64_t done_ = 0;
  bool quiet_;
  bool terminal_;
  Stopwatch started_;
  double printed_at_s_ = -1e9;
};

}  // namespace comet
