#include "comet/quant/weights/host_hessian.h"

#include <algorithm>

#include "comet/quant/weights/gptq.h"

namespace comet::quant {

int64_t HostHessian::num_channels() const {
  return accumulator_ ? accumulator_->num_channels() : sum_.n;
}

void HostHessian::add(ConstRows rows) {
  COMET_CHECK(accumulator_.has_value(), "rows after the codes");
  const View<const float, 2> view = rows.f32();
  constexpr int64_t kRowsPerStep = 1024;  // stored and quantized forms are made of so many
  for (int64_t begin = 0; begin < rows.num_rows; begin += kRowsPerStep) {
    const int64_t count = std::min(kRowsPerStep, rows.num_rows - begin);
    accumulator_->add(ctx_, {view.row(begin), {count, rows.num_columns}, view.strides});
  }
}

Result<std::vector<int8_t>> HostHessian::code(const FeedbackProblem& problem) {
  if (accumulator_) {
    sum_ = accumulator_->finish(ctx_);
    accumulator_.reset();
  }
  const auto factor = factor_hessian(ctx_, sum_, problem.damp, problem.name);
  if (!factor) return factor.error();
  std::vector<int8_t> codes(problem.stored.values.size());
  code_with_feedback(ctx_, problem.stored, problem.grid, *factor, codes);
  return codes;
}

}  // namespace comet::quant
