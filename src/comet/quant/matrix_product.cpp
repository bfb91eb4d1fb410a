#include "comet/quant/matrix_product.h"

#include <algorithm>

#include "comet/formats/format.h"
#include "comet/nn/linear.h"

namespace comet::quant {
namespace {

/// One dense weight that borrows a matrix's values.
class BorrowedSource final : public formats::TensorSource {
 public:
  explicit BorrowedSource(View<const float, 2> matrix) : matrix_(matrix) {}
  [[nodiscard]] bool contains(std::string_view name) const override { return name == "b.weight"; }
  [[nodiscard]] Result<Tensor> get(std::string_view, std::span<const DType>,
                                   const Shape& shape) const override {
    auto* bytes = reinterpret_cast<std::byte*>(const_cast<float*>(matrix_.data));
    const auto num_bytes = static_cast<size_t>(shape.num_elements()) * sizeof(float);
    return Tensor(std::make_shared<Storage>(bytes, num_bytes, nullptr), 0, DType::kF32, shape);
  }

 private:
  View<const float, 2> matrix_;
};

nn::Linear borrow_as_linear(const Context& ctx, View<const float, 2> b) {
  COMET_CHECK(b.strides[0] == b.size(1), "rows of {} lie {} apart", b.size(1), b.strides[0]);
  const formats::LinearSpec spec{"b", "", {"b"}, {b.size(0)}, b.size(1), false};
  const auto dense = formats::find_weight_format("dense");
  COMET_CHECK(dense.ok(), "no dense format");
  auto linear = nn::Linear::load(spec, **dense, nullptr, BorrowedSource(b), ctx.caps);
  COMET_CHECK(linear.ok(), "{}", linear.ok() ? "" : linear.error().message);
  return *std::move(linear);
}

}  // namespace

Matrix matrix_product(Context& ctx, const Matrix& a, const Matrix& b) {
  COMET_CHECK(a.cols == b.cols, "{} and {} columns", a.cols, b.cols);
  Matrix product(a.rows, b.rows);
  const nn::Linear linear = borrow_as_linear(ctx, b.view());
  constexpr int64_t kRowsPerStep = 1024;  // bounds the arena
  for (int64_t begin = 0; begin < a.rows; begin += kRowsPerStep) {
    const ArenaScope scope(ctx.arena);
    const int64_t count = std::min(kRowsPerStep, a.rows - begin);
    const Tensor out = linear(ctx, View<const float, 2>{a.row(begin), {count, a.cols}});
    std::copy_n(out.data<float>(), count * b.rows, product.row(begin));
  }
  return product;
}

Tensor product_in_arena(Context& ctx, View<const float, 2> a, View<const float, 2> b) {
  COMET_CHECK(a.size(1) == b.size(1), "{} and {} columns", a.size(1), b.size(1));
  return borrow_as_linear(ctx, b)(ctx, a);
}

}  // namespace comet::quant
