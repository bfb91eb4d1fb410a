#include "comet/quant/layer/site_inputs.h"

#include <algorithm>
#include <cmath>

#include "comet/base/check.h"
#include "comet/quant/fmpq/permutation.h"

namespace comet::quant {

int64_t SiteInputs::bytes(const io::ModelConfig& config, int64_t num_tokens) {
  int64_t channels = 0;
  for (const formats::LinearSpec& spec : models::llama_linear_specs(config, 0)) channels += spec.k;
  const auto row_bytes = channels * static_cast<int64_t>(sizeof(float));
  return num_tokens <= kMaxBytes / row_bytes ? num_tokens * row_bytes : 0;
}

void SiteInputs::reset(const LayerWeights& layer, int64_t num_tokens) {
  for (size_t i = 0; i < kNumSites; ++i) rows_[i] = Matrix(num_tokens, layer.specs[i].k);
  num_rows_ = {};
}

void SiteInputs::append(ThreadPool& pool, size_t site_idx, View<const float, 2> rows) {
  Matrix& kept = rows_[site_idx];
  int64_t& num_rows = num_rows_[site_idx];
  COMET_CHECK(num_rows + rows.size(0) <= kept.rows && rows.size(1) == kept.cols,
              "site {}: {} rows after {} of {}", site_idx, rows.size(0), num_rows, kept.rows);
  pool.parallel_for(rows.size(0), [&](int64_t t, int) {
    std::copy_n(rows.row(t), kept.cols, kept.row(num_rows + t));
  });
  num_rows += rows.size(0);
}

void SiteInputs::scale(ThreadPool& pool, size_t site_idx, std::span<const float> scales) {
  std::vector<int64_t> channels;
  for (size_t c = 0; c < scales.size(); ++c) {
    if (scales[c] != 1.0F) channels.push_back(static_cast<int64_t>(c));
  }
  Matrix& kept = rows_[site_idx];
  pool.parallel_for(kept.rows, [&](int64_t t, int) {
    for (const int64_t c : channels) kept.row(t)[c] /= scales[c];
  });
}

void SiteInputs::permute(ThreadPool& pool, size_t site_idx, std::span<const int32_t> order) {
  permute_columns(pool, rows_[site_idx], order);
}

}  // namespace comet::quant
