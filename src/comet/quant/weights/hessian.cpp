#include "comet/quant/weights/hessian.h"

#include <algorithm>

#include "comet/quant/fmpq/activation_rows.h"

namespace comet::quant {
namespace {

constexpr int64_t kChunkTokens = 2048;

}  // namespace

HessianAccumulator::HessianAccumulator(const formats::SiteLayout& layout)
    : layout_(layout), sum_(layout.k_padded), pending_(layout.k_padded, kChunkTokens) {}

void HessianAccumulator::add(Context& ctx, View<const float, 2> rows) {
  const Matrix x = quantized_rows(ctx.pool, layout_, stored_rows(ctx.pool, layout_, rows));
  for (int64_t begin = 0; begin < x.rows;) {
    const int64_t count = std::min(x.rows - begin, kChunkTokens - num_pending_);
    ctx.pool.parallel_for(x.cols, [&](int64_t c, int) {
      float* column = pending_.row(c) + num_pending_;
      for (int64_t t = 0; t < count; ++t) column[t] = x.row(begin + t)[c];
    });
    begin += count;
    num_pending_ += count;
    if (num_pending_ == kChunkTokens) flush(ctx);
  }
}

void HessianAccumulator::flush(Context& ctx) {
  if (num_pending_ == 0) return;
  // What is left of an older chunk behind the last token must not count.
  for (int64_t c = 0; c < pending_.rows; ++c) {
    std::fill(pending_.row(c) + num_pending_, pending_.row(c) + kChunkTokens, 0.0F);
  }
  add_gram(ctx, pending_, 1.0, sum_, 0);
  num_pending_ = 0;
}

SymmetricMatrix HessianAccumulator::finish(Context& ctx) {
  flush(ctx);
  return std::move(sum_);
}

}  // namespace comet::quant
