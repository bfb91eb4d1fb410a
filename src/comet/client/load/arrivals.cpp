#include "comet/client/load/arrivals.h"

#include <fmt/format.h>

#include <cmath>

namespace comet::client {

std::string Arrivals::text() const {
  switch (kind) {
    case Kind::kConcurrency:
      return concurrency == 1 ? "synchronous" : fmt::format("concurrency {}", concurrency);
    case Kind::kConstant:
      return fmt::format("constant {:g}/s", rate_per_s);
    case Kind::kPoisson:
      return fmt::format("Poisson {:g}/s", rate_per_s);
  }
  return "";
}

ArrivalTimes::ArrivalTimes(const Arrivals& arrivals, uint64_t seed)
    : poisson_(arrivals.kind == Arrivals::Kind::kPoisson),
      rate_per_s_(arrivals.rate_per_s),
      rng_(seed, kStream) {}

double ArrivalTimes::next_s() {
  if (!poisson_) return static_cast<double>(count_++) / rate_per_s_;
  // 53 random bits: an exponential gap of up to 36 means.
  const double uniform = (static_cast<double>(rng_.next_bits() >> 11) + 0.5) * 0x1p-53;
  poisson_s_ += -std::log(uniform) / rate_per_s_;
  return poisson_s_;
}

}  // namespace comet::client
