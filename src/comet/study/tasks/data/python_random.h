// PythonRandom: the numbers of Python's random.Random(seed), so that few-shot examples and
// bootstraps are lm-evaluation-harness's own. Mersenne Twister: Matsumoto, Nishimura 1998;
// everything above it as CPython's random.py has it.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace comet::study {

class PythonRandom {
 public:
  /// seed < 2³².
  explicit PythonRandom(uint32_t seed);

  /// random(): 53 bits in [0, 1).
  double uniform();
  /// randrange(bound), 1 ≤ bound < 2³².
  uint32_t below(uint32_t bound);
  /// sample(range(population), count), count ≤ population.
  std::vector<int64_t> sample(int64_t population, int64_t count);

 private:
  uint32_t next();

  static constexpr int kWords = 624;
  std::array<uint32_t, kWords> state_{};
  int at_ = kWords;
};

}  // namespace comet::study
