#include "comet/quant/fmpq/activation_clip.h"

#include <algorithm>

#include "comet/quant/fmpq/activation_rows.h"
#include "comet/quant/matrix_product.h"

namespace comet::quant {
namespace {

constexpr int64_t kMaxTokens = 256;
constexpr int64_t kMaxOutputs = 1024;
constexpr int kNumRatios = 7;

/// At most `max_rows` evenly spaced rows, first `num_cols` columns.
Matrix sample(const Matrix& from, int64_t max_rows, int64_t num_cols) {
  const int64_t count = std::min(max_rows, from.rows);
  Matrix to(count, num_cols);
  for (int64_t i = 0; i < count; ++i) {
    std::copy_n(from.row(i * from.rows / count), num_cols, to.row(i));
  }
  return to;
}

double sum_of_squares(const Matrix& m) {
  double total = 0.0;
  for (const float x : m.values) total += static_cast<double>(x) * x;
  return total;
}

}  // namespace

float search_activation_clip(Context& ctx, const formats::SiteLayout& layout,
                             const Matrix& stored_x, const Matrix& stored_weight) {
  const int64_t num_int4 = layout.int4_channels();
  if (num_int4 == 0 || stored_x.rows == 0) return 1.0F;
  const Matrix x = sample(stored_x, kMaxTokens, num_int4);
  const Matrix weight = sample(stored_weight, kMaxOutputs, num_int4);
  formats::SiteLayout int4_only = layout;
  int4_only.k_padded = num_int4;
  int4_only.int8_blocks = 0;
  float best_ratio = 1.0F;
  double best_error = 0.0;
  for (int i = 0; i < kNumRatios; ++i) {
    const float ratio = static_cast<float>(100 - 5 * i) / 100.0F;
    int4_only.clip = ratio;
    Matrix error = quantized_rows(ctx.pool, int4_only, x);
    for (size_t j = 0; j < error.values.size(); ++j) error.values[j] -= x.values[j];
    const double total = sum_of_squares(matrix_product(ctx, error, weight));
    if (i == 0 || total < best_error) {
      best_error = total;
      best_ratio = ratio;
    }
  }
  return best_ratio;
}

}  // namespace comet::quant
