// A site's Hessian in device memory and GPTQ with it: backend.h's SiteHessian on a GPU. Callers:
// the CUDA backend, tests. The definition is weights/gptq.h; what differs from the CPU is rounding:
// sums over tokens and the factorization are FP64 throughout, sums over earlier columns come from
// cuBLASLt in FP32.
#pragma once

#include "comet/quant/backend/backend.h"
#include "comet/quant/cuda/device_matrix.h"
#include "comet/quant/weights/symmetric_matrix.h"

namespace comet::quant::cuda {

/// FeedbackFactor of weights/gptq.h in device memory.
struct DeviceFactor {
  std::vector<int32_t> order;       // [k]
  DeviceValues<int32_t> on_device;  // the same
  DeviceValues<float> rows;         // [k, k]
};

class DeviceHessian final : public SiteHessian {
 public:
  DeviceHessian(Context& device, const formats::SiteLayout& layout);

  [[nodiscard]] int64_t num_channels() const override { return layout_.k_padded; }
  void add(ConstRows rows) override;
  Result<std::vector<int8_t>> code(const FeedbackProblem& problem) override;

  /// The two halves of code(). The sum stays.
  Result<DeviceFactor> factor(double damp, const std::string& name);
  std::vector<int8_t> code_with(const DeviceFactor& factor, const FeedbackProblem& problem);

  /// The sum so far, for tests; and a sum that is known.
  [[nodiscard]] SymmetricMatrix to_host() const;
  void assign(const SymmetricMatrix& sum);

 private:
  Context& ctx_;
  formats::SiteLayout layout_;
  DeviceValues<double> sum_;    // [k_padded, k_padded], lower triangle
  DeviceValues<int32_t> perm_;  // empty: identity
  DeviceValues<float> rows_;    // [kChunkTokens, k] in FP32
  DeviceValues<float> stored_;  // [kChunkTokens, k_padded]
};

}  // namespace comet::quant::cuda
