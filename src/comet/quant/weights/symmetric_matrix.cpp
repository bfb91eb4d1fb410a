#include "comet/quant/weights/symmetric_matrix.h"

#include <algorithm>

#include "comet/quant/matrix_product.h"

namespace comet::quant {

void add_gram(Context& ctx, const Matrix& rows, double factor, SymmetricMatrix& sum,
              int64_t first) {
  COMET_CHECK(first >= 0 && first + rows.rows <= sum.n, "rows {} to {} of {}", first,
              first + rows.rows, sum.n);
  constexpr int64_t kRowsPerStep = 512;  // bounds the arena, and the waste above the diagonal
  for (int64_t begin = 0; begin < rows.rows; begin += kRowsPerStep) {
    const ArenaScope scope(ctx.arena);
    const int64_t end = std::min(begin + kRowsPerStep, rows.rows);
    const Tensor products = product_in_arena(ctx, {rows.row(begin), {end - begin, rows.cols}},
                                             {rows.values.data(), {end, rows.cols}});
    const View<const float, 2> view = products.view<const float, 2>();
    ctx.pool.parallel_for(end - begin, [&](int64_t i, int) {
      const float* source = view.row(i);
      double* target = &sum.at(first + begin + i, first);
      for (int64_t j = 0; j <= begin + i; ++j) target[j] += factor * source[j];
    });
  }
}

}  // namespace comet::quant
