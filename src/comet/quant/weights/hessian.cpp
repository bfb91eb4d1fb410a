#include "comet/quant/weights/hessian.h"

#include "comet/base/check.h"
#include "comet/quant/fmpq/activation_rows.h"
#include "comet/quant/matrix_product.h"

namespace comet::quant {

void add_to_hessian(Context& ctx, const formats::SiteLayout& layout, View<const float, 2> rows,
                    SymmetricMatrix& hessian) {
  COMET_CHECK(hessian.n == layout.k_padded, "{}: Hessian of {}", layout.name, hessian.n);
  const Matrix x = quantized_rows(ctx.pool, layout, stored_rows(ctx.pool, layout, rows));
  Matrix transposed(x.cols, x.rows);
  ctx.pool.parallel_for(x.cols, [&](int64_t c, int) {
    for (int64_t t = 0; t < x.rows; ++t) transposed.row(c)[t] = x.row(t)[c];
  });
  const Matrix product = matrix_product(ctx, transposed, transposed);
  ctx.pool.parallel_for(hessian.n, [&](int64_t i, int) {
    for (int64_t j = 0; j <= i; ++j) {
      // Both triangles from one product: exactly symmetric whatever the kernel's order of sums.
      const double sum = hessian.at(i, j) + product.row(i)[j];
      hessian.at(i, j) = sum;
      hessian.at(j, i) = sum;
    }
  });
}

}  // namespace comet::quant
