#include "comet/quant/layer/site_inputs.h"

namespace comet::quant {

int64_t SiteInputs::bytes(const io::ModelConfig& config, int64_t num_tokens) {
  int64_t channels = 0;
  for (const formats::LinearSpec& spec : models::llama_linear_specs(config, 0)) channels += spec.k;
  const auto row_bytes = channels * static_cast<int64_t>(sizeof(float));
  return num_tokens <= kMaxBytes / row_bytes ? num_tokens * row_bytes : 0;
}

void SiteInputs::reset(Backend& backend, const LayerWeights& layer, int64_t num_tokens) {
  for (size_t i = 0; i < kNumSites; ++i) {
    rows_[i].reset();  // before the next takes memory
    rows_[i] = backend.make_kept_rows(num_tokens, layer.specs[i].k);
  }
}

void SiteInputs::append(size_t site_idx, ConstRows rows) { rows_[site_idx]->append(rows); }

void SiteInputs::scale(size_t site_idx, std::span<const float> scales) {
  if (rows_[site_idx] != nullptr) rows_[site_idx]->scale(scales);
}

void SiteInputs::permute(size_t site_idx, std::span<const int32_t> order) {
  if (rows_[site_idx] != nullptr) rows_[site_idx]->permute(order);
}

ConstRows SiteInputs::rows(size_t site_idx) const {
  return rows_[site_idx] == nullptr ? ConstRows() : rows_[site_idx]->rows();
}

}  // namespace comet::quant
