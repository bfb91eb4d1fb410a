#include "comet/study/tasks/data/python_random.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "comet/base/check.h"

namespace comet::study {
namespace {

constexpr int kShift = 397;

/// init_genrand and init_by_array({seed}) of the reference implementation.
void seed_state(std::array<uint32_t, 624>& mt, uint32_t seed) {
  const auto n = static_cast<uint32_t>(mt.size());
  mt[0] = 19650218U;
  for (uint32_t i = 1; i < n; ++i) mt[i] = 1812433253U * (mt[i - 1] ^ (mt[i - 1] >> 30)) + i;
  uint32_t i = 1;
  const auto advance = [&] {
    if (++i >= n) {
      mt[0] = mt[n - 1];
      i = 1;
    }
  };
  for (uint32_t k = 0; k < n; ++k) {
    mt[i] = (mt[i] ^ ((mt[i - 1] ^ (mt[i - 1] >> 30)) * 1664525U)) + seed;
    advance();
  }
  for (uint32_t k = 1; k < n; ++k) {
    mt[i] = (mt[i] ^ ((mt[i - 1] ^ (mt[i - 1] >> 30)) * 1566083941U)) - i;
    advance();
  }
  mt[0] = 0x80000000U;
}

}  // namespace

PythonRandom::PythonRandom(uint32_t seed) { seed_state(state_, seed); }

uint32_t PythonRandom::next() {
  if (at_ == kWords) {
    for (int i = 0; i < kWords; ++i) {
      const uint32_t y = (state_[i] & 0x80000000U) | (state_[(i + 1) % kWords] & 0x7FFFFFFFU);
      state_[i] = state_[(i + kShift) % kWords] ^ (y >> 1) ^ ((y & 1U) != 0 ? 0x9908B0DFU : 0U);
    }
    at_ = 0;
  }
  uint32_t y = state_[at_++];
  y ^= y >> 11;
  y ^= (y << 7) & 0x9D2C5680U;
  y ^= (y << 15) & 0xEFC60000U;
  return y ^ (y >> 18);
}

double PythonRandom::uniform() {
  const uint32_t high = next() >> 5;
  const uint32_t low = next() >> 6;
  return (high * 67108864.0 + low) / 9007199254740992.0;
}

uint32_t PythonRandom::below(uint32_t bound) {
  COMET_CHECK(bound > 0);
  const int num_bits = std::bit_width(bound);
  uint32_t value = next() >> (32 - num_bits);
  while (value >= bound) value = next() >> (32 - num_bits);
  return value;
}

std::vector<int64_t> PythonRandom::sample(int64_t population, int64_t count) {
  COMET_CHECK(count >= 0 && count <= population && population < INT32_MAX, "{} of {}", count,
              population);
  std::vector<int64_t> result;
  // Size of a small set; CPython takes a list of the population where that is smaller.
  double set_size = 21;
  if (count > 5) {
    set_size += std::pow(4, std::ceil(std::log(static_cast<double>(count) * 3) / std::log(4.0)));
  }
  if (static_cast<double>(population) <= set_size) {
    std::vector<int64_t> pool(population);
    for (int64_t i = 0; i < population; ++i) pool[i] = i;
    for (int64_t i = 0; i < count; ++i) {
      const uint32_t at = below(static_cast<uint32_t>(population - i));
      result.push_back(pool[at]);
      pool[at] = pool[population - i - 1];
    }
    return result;
  }
  while (static_cast<int64_t>(result.size()) < count) {
    const int64_t at = below(static_cast<uint32_t>(population));
    if (std::find(result.begin(), result.end(), at) == result.end()) result.push_back(at);
  }
  return result;
}

}  // namespace comet::study
