// Σ x·xᵀ over a site's quantized input rows in stored order: what GPTQ minimizes against. Callers:
// layer_quantizer. FP32 products of up to 2,048 tokens, FP64 sums of those; independent of threads
// and of how rows are handed over.
#pragma once

#include "comet/formats/quantized_weight.h"
#include "comet/ops/context.h"
#include "comet/quant/matrix.h"
#include "comet/quant/weights/symmetric_matrix.h"

namespace comet::quant {

class HessianAccumulator {
 public:
  explicit HessianAccumulator(const formats::SiteLayout& layout);
  /// rows [n, k] in the model's order; their quantized stored form is what counts.
  void add(Context& ctx, View<const float, 2> rows);
  [[nodiscard]] int64_t num_channels() const { return layout_.k_padded; }
  /// The sum so far; nothing may be added after it.
  SymmetricMatrix finish(Context& ctx);

 private:
  void flush(Context& ctx);

  formats::SiteLayout layout_;
  SymmetricMatrix sum_;
  Matrix pending_;  // [k_padded, kChunkTokens]: quantized rows as columns
  int64_t num_pending_ = 0;
};

}  // namespace comet::quant
