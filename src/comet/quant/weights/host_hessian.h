// HostHessian: a site's Hessian in the host's memory, with GPTQ by gptq.h. Callers: the CPU's
// backend; tests make one of a matrix.
#pragma once

#include "comet/quant/backend/backend.h"
#include "comet/quant/weights/hessian.h"

namespace comet::quant {

class HostHessian final : public SiteHessian {
 public:
  HostHessian(Context& ctx, const formats::SiteLayout& layout) : ctx_(ctx), accumulator_(layout) {}
  /// Of a sum that is known.
  HostHessian(Context& ctx, SymmetricMatrix sum) : ctx_(ctx), sum_(std::move(sum)) {}

  [[nodiscard]] int64_t num_channels() const override;
  void add(ConstRows rows) override;
  Result<std::vector<int8_t>> code(const FeedbackProblem& problem) override;

 private:
  Context& ctx_;
  std::optional<HessianAccumulator> accumulator_;  // until sum_ is complete
  SymmetricMatrix sum_;
};

}  // namespace comet::quant
