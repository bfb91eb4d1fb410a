// A site's input rows in device memory: backend.h's KeptRows on a GPU, and what else takes rows as
// layers leave them (BF16, or FP32 with a stride). Callers: the CUDA backend, device_hessian.
#pragma once

#include "comet/quant/backend/backend.h"
#include "comet/quant/cuda/device_matrix.h"

namespace comet::quant::cuda {

/// Rows [begin, begin + count).
ConstRows rows_from(const ConstRows& rows, int64_t begin, int64_t count);

/// FP32 or BF16 rows → out [num_rows, num_columns] in FP32.
void to_float(const ConstRows& rows, float* out, cudaStream_t stream);

class DeviceRows final : public KeptRows {
 public:
  DeviceRows(Context& device, int64_t num_rows, int64_t k);

  void append(ConstRows rows) override;
  void scale(std::span<const float> scales) override;
  void permute(std::span<const int32_t> order) override;
  [[nodiscard]] ConstRows rows() const override;

 private:
  Context& ctx_;
  int64_t capacity_;
  int64_t k_;
  int64_t num_rows_ = 0;
  DeviceValues<float> kept_;  // [capacity_, k_]
};

}  // namespace comet::quant::cuda
