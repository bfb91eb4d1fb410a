#include "comet/quant/cuda/device_rows.h"

#include <algorithm>

#include "comet/quant/cuda/launches.h"

namespace comet::quant::cuda {

ConstRows rows_from(const ConstRows& rows, int64_t begin, int64_t count) {
  const auto* bytes = static_cast<const std::byte*>(rows.data);
  return {bytes + begin * rows.stride * dtype_bytes(rows.dtype), rows.dtype, count,
          rows.num_columns, rows.stride};
}

void to_float(const ConstRows& rows, float* out, cudaStream_t stream) {
  COMET_CHECK(rows.dtype == DType::kF32 || rows.dtype == DType::kBF16, "rows of {}",
              dtype_name(rows.dtype));
  launch_float_rows(
      {rows.data, rows.dtype == DType::kBF16, rows.stride, rows.num_rows, rows.num_columns, out},
      stream);
}

DeviceRows::DeviceRows(Context& device, int64_t num_rows, int64_t k)
    : ctx_(device), capacity_(num_rows), k_(k), kept_(device, num_rows * k) {}

void DeviceRows::append(ConstRows rows) {
  COMET_CHECK(num_rows_ + rows.num_rows <= capacity_ && rows.num_columns == k_,
              "{} rows of {} after {} of {}", rows.num_rows, rows.num_columns, num_rows_,
              capacity_);
  to_float(rows, kept_.get() + num_rows_ * k_, ctx_.cuda->stream);
  num_rows_ += rows.num_rows;
}

void DeviceRows::scale(std::span<const float> scales) {
  COMET_CHECK(static_cast<int64_t>(scales.size()) == k_, "{} scales of {}", scales.size(), k_);
  if (std::ranges::all_of(scales, [](float s) { return s == 1.0F; })) return;
  const DeviceValues<float> divisors(ctx_, std::vector<float>(scales.begin(), scales.end()));
  launch_divide_columns(kept_.get(), num_rows_, k_, divisors.get(), ctx_.cuda->stream);
  COMET_CUDA(cudaStreamSynchronize(ctx_.cuda->stream));  // `divisors` ends here
}

void DeviceRows::permute(std::span<const int32_t> order) {
  COMET_CHECK(static_cast<int64_t>(order.size()) == k_, "{} channels of {}", order.size(), k_);
  constexpr int64_t kStepRows = 2048;
  const DeviceValues<int32_t> sources(ctx_, std::vector<int32_t>(order.begin(), order.end()));
  const DeviceValues<float> step(ctx_, std::min(kStepRows, num_rows_) * k_);
  for (int64_t begin = 0; begin < num_rows_; begin += kStepRows) {
    const int64_t count = std::min(kStepRows, num_rows_ - begin);
    float* rows = kept_.get() + begin * k_;
    launch_gather_columns(rows, count, k_, sources.get(), step.get(), ctx_.cuda->stream);
    COMET_CUDA(cudaMemcpyAsync(rows, step.get(), static_cast<size_t>(count * k_) * sizeof(float),
                               cudaMemcpyDeviceToDevice, ctx_.cuda->stream));
  }
  COMET_CUDA(cudaStreamSynchronize(ctx_.cuda->stream));  // `step` ends here
}

ConstRows DeviceRows::rows() const { return {kept_.get(), DType::kF32, num_rows_, k_, k_}; }

}  // namespace comet::quant::cuda
