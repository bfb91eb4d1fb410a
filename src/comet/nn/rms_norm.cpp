#include "comet/nn/rms_norm.h"

#include <array>

namespace comet::nn {

std::vector<float> to_float_vector(const Tensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.num_elements()));
  const auto widen = [&](auto* data) {
    for (size_t i = 0; i < values.size(); ++i) values[i] = to_float(data[i]);
  };
  switch (tensor.dtype()) {
    case DType::kF32:
      values.assign(tensor.data<float>(), tensor.data<float>() + values.size());
      break;
    case DType::kF16:
      widen(tensor.data<Float16>());
      break;
    case DType::kBF16:
      widen(tensor.data<BFloat16>());
      break;
    default:
      COMET_CHECK(false, "{} is not a float type", dtype_name(tensor.dtype()));
  }
  return values;
}

Result<RmsNorm> RmsNorm::load(const std::string& name, int64_t size, float eps,
                              const formats::TensorSource& tensors) {
  constexpr std::array kDtypes{DType::kF32, DType::kF16, DType::kBF16};
  auto tensor = tensors.get(name, kDtypes, {size});
  if (!tensor) return tensor.error();
  return RmsNorm(to_float_vector(*tensor), eps);
}

void RmsNorm::move_to_device(Context& ctx) {
  if (ctx.cuda == nullptr) return;
  on_device_ = copy_to_device(ctx, weight_, {static_cast<int64_t>(weight_.size())});
}

}  // namespace comet::nn
