#include "comet/ops/product/product.h"

#include "comet/ops/op_table.h"
#include "comet/ops/row_sums.h"

namespace comet {

void product(Context& ctx, Rows out, ConstRows a, ConstRows b, ProductForm form,
             const ProductEnd& end) {
  const int64_t m = form == ProductForm::kWeight ? a.num_columns : a.num_rows;
  const int64_t k = form == ProductForm::kWeight ? a.num_rows : a.num_columns;
  const int64_t n = form == ProductForm::kForward ? b.num_rows : b.num_columns;
  const int64_t k_of_b = form == ProductForm::kForward ? b.num_columns : b.num_rows;
  COMET_CHECK(out.num_rows == m && out.num_columns == n && k == k_of_b && k > 0 &&
                  a.dtype == b.dtype && (end.bias.data == nullptr || end.bias.size(0) == n),
              "out [{}, {}], a [{}, {}], b [{}, {}], form {}", out.num_rows, out.num_columns,
              a.num_rows, a.num_columns, b.num_rows, b.num_columns, static_cast<int>(form));
  COMET_CHECK(ctx.ops.product != nullptr, "product has no kernel on this device");
  ctx.ops.product(ctx, out, a, b, form, end);
}

void column_sums(Context& ctx, View<float, 1> sums, ConstRows x) {
  COMET_CHECK(sums.size(0) == x.num_columns && sums.strides[0] == 1, "{} sums of {} columns",
              sums.size(0), x.num_columns);
  COMET_CHECK(ctx.ops.column_sums != nullptr, "column_sums has no kernel on this device");
  ctx.ops.column_sums(ctx, sums, x);
}

void column_sums_cpu(Context& ctx, View<float, 1> sums, ConstRows rows) {
  const View<const float, 2> x = rows.f32();
  const int64_t n = x.size(1);
  sum_over_rows<double>(
      ctx, x.size(0), n,
      [&](int64_t begin, int64_t end, double* partial) {
        for (int64_t i = begin; i < end; ++i) {
          for (int64_t c = 0; c < n; ++c) partial[c] += double{x.row(i)[c]};
        }
      },
      [&](int64_t c, double sum) { sums.data[c] = static_cast<float>(sums.data[c] + sum); });
}

}  // namespace comet
