#include "comet/quant/vision/product_inputs.h"

#include <algorithm>

namespace comet::quant {
namespace {

/// At most `count` rows at even distances.
ConstRows spread(ConstRows rows, int64_t count) {
  const int64_t step = std::max<int64_t>(1, rows.num_rows / std::max<int64_t>(1, count));
  rows.num_rows = std::min(count, (rows.num_rows + step - 1) / step);
  rows.stride *= step;
  return rows;
}

int64_t share_of_batch(int64_t rows, int64_t num_batches) {
  return (rows + num_batches - 1) / num_batches;
}

}  // namespace

ProductInputs::ProductInputs(Backend& backend, int64_t num_batches)
    : backend_(backend),
      host_(make_cpu_backend(backend.host)),
      num_batches_(std::max<int64_t>(1, num_batches)) {}

void ProductInputs::watch(const formats::SiteLayout& layout, const std::string& product,
                          bool needs_hessian) {
  Site& site = sites_[product];
  site.k = layout.k;
  if (needs_hessian) site.hessian = host_->make_hessian(layout);
}

void ProductInputs::on_input(const nn::Linear& linear, ConstRows rows) {
  Site& site = sites_.at(linear.spec().name);
  const Matrix seen =
      backend_.download(spread(rows, share_of_batch(kMaxHessianRows, num_batches_)));
  if (site.hessian != nullptr) site.hessian->add(seen.view());
  const int64_t num_kept = static_cast<int64_t>(site.kept.size()) / site.k;
  const ConstRows kept = spread(
      seen.view(), std::min(share_of_batch(kMaxKeptRows, num_batches_), kMaxKeptRows - num_kept));
  for (int64_t i = 0; i < kept.num_rows; ++i) {
    const float* row = kept.f32().row(i);
    site.kept.insert(site.kept.end(), row, row + site.k);
  }
}

Matrix ProductInputs::kept_rows(const std::string& product) const {
  const Site& site = sites_.at(product);
  Matrix rows(static_cast<int64_t>(site.kept.size()) / site.k, site.k);
  rows.values = site.kept;
  return rows;
}

}  // namespace comet::quant
