// When requests are sent: a fixed number at a time (one: synchronous), or at a rate, evenly or as a
// Poisson process, whatever the server answers. Caller: the load generator.
#pragma once

#include <cstdint>
#include <string>

#include "comet/base/rng.h"

namespace comet::client {

struct Arrivals {
  enum class Kind { kConcurrency, kConstant, kPoisson };
  Kind kind = Kind::kConcurrency;
  int64_t concurrency = 1;  // kConcurrency: requests in flight
  double rate_per_s = 0;    // else: requests a second

  [[nodiscard]] bool at_rate() const { return kind != Kind::kConcurrency; }
  /// "synchronous", "concurrency 8", "constant 2/s", "Poisson 2/s".
  [[nodiscard]] std::string text() const;
};

/// The times of arrivals at a rate, in seconds from the start; a pure function of the seed.
class ArrivalTimes {
 public:
  ArrivalTimes(const Arrivals& arrivals, uint64_t seed);
  /// The next one: the first of a constant rate is 0, of a Poisson process its first gap.
  double next_s();

 private:
  static constexpr uint64_t kStream = 0xA221;  // apart from the prompts' random numbers

  bool poisson_;
  double rate_per_s_;
  Rng rng_;
  int64_t count_ = 0;
  double poisson_s_ = 0;
};

}  // namespace comet::client
