#include "comet/quant/fmpq/rotation.h"

#include <cmath>

#include "comet/base/check.h"

namespace comet::quant {

void hadamard(float* x, int64_t n) {
  COMET_DCHECK(n > 0 && (n & (n - 1)) == 0, "{} points", n);
  for (int64_t stride = 1; stride < n; stride *= 2) {
    for (int64_t base = 0; base < n; base += 2 * stride) {
      for (int64_t i = base; i < base + stride; ++i) {
        const float a = x[i];
        const float b = x[i + stride];
        x[i] = a + b;
        x[i + stride] = a - b;
      }
    }
  }
  const auto factor = static_cast<float>(1.0 / std::sqrt(static_cast<double>(n)));
  for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}

void rotate_int4_blocks(ThreadPool& pool, Matrix& stored, const formats::SiteLayout& layout) {
  if (layout.scale != formats::ActScale::kS2h) return;
  COMET_CHECK(stored.cols == layout.k_padded, "{}: {} columns, {} stored channels", layout.name,
              stored.cols, layout.k_padded);
  const int64_t num_int4_blocks = layout.num_blocks() - layout.int8_blocks;
  pool.parallel_for(stored.rows, [&](int64_t n, int) {
    for (int64_t b = 0; b < num_int4_blocks; ++b) {
      hadamard(stored.row(n) + b * formats::kBlock, formats::kBlock);
    }
  });
}

}  // namespace comet::quant
