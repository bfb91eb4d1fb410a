#include "comet/quant/fmpq/activation_rows.h"

#include <algorithm>
#include <cmath>

#include "comet/base/check.h"
#include "comet/quant/fmpq/rotation.h"

namespace comet::quant {
namespace {

using formats::ActScale;
using formats::kBlock;
using formats::SiteLayout;

constexpr float kA4 = 7.0F;
constexpr float kA8 = 127.0F;

void quantize_row(const SiteLayout& layout, const float* x, float* out) {
  const int64_t num_int4 = layout.int4_channels();
  if (layout.scale != ActScale::kS1) {
    quantize_span(x, out, num_int4, layout.clip, kA4);
    quantize_span(x + num_int4, out + num_int4, layout.k_padded - num_int4, 1.0F, kA8);
    return;
  }
  for (int64_t begin = 0; begin < layout.k_padded; begin += kBlock) {
    const bool int4 = begin < num_int4;
    quantize_span(x + begin, out + begin, kBlock, int4 ? layout.clip : 1.0F, int4 ? kA4 : kA8);
  }
}

}  // namespace

void quantize_span(const float* x, float* out, int64_t count, float clip, float max_code) {
  float absmax = 0.0F;
  for (int64_t i = 0; i < count; ++i) absmax = std::max(absmax, std::fabs(x[i]));
  const float a = clip * absmax;
  if (a < 0x1p-100F) {
    std::fill_n(out, count, 0.0F);
    return;
  }
  const float r = max_code / a;
  const float scale = a / max_code;
  for (int64_t i = 0; i < count; ++i) {
    const float code = std::clamp(std::nearbyint(x[i] * r), -max_code, max_code);
    out[i] = code * scale;
  }
}

Matrix stored_rows(ThreadPool& pool, const SiteLayout& layout, View<const float, 2> rows) {
  COMET_CHECK(rows.size(1) == layout.k, "{}: rows of {}, {} channels", layout.name, rows.size(1),
              layout.k);
  Matrix stored(rows.size(0), layout.k_padded);
  pool.parallel_for(stored.rows, [&](int64_t t, int) {
    const float* from = rows.row(t);
    float* to = stored.row(t);
    if (layout.perm.empty()) {
      std::copy_n(from, layout.k, to);
      return;
    }
    for (int64_t j = 0; j < layout.k_padded; ++j) {
      if (layout.perm[j] >= 0) to[j] = from[layout.perm[j]];
    }
  });
  rotate_int4_blocks(pool, stored, layout);
  return stored;
}

Matrix quantized_rows(ThreadPool& pool, const SiteLayout& layout, const Matrix& stored) {
  COMET_CHECK(stored.cols == layout.k_padded, "{}: rows of {}, {} stored channels", layout.name,
              stored.cols, layout.k_padded);
  if (layout.scale == ActScale::kA16) return stored;
  Matrix out(stored.rows, stored.cols);
  pool.parallel_for(stored.rows,
                    [&](int64_t t, int) { quantize_row(layout, stored.row(t), out.row(t)); });
  return out;
}

}  // namespace comet::quant
