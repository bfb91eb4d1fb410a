#include "comet/study/scorer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace comet::study {
namespace {

constexpr int64_t kChunkTokens = 256;  // logits of a chunk are held at once

double log_softmax_at(std::span<const float> logits, int32_t target) {
  const float max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - max);
  return static_cast<double>(logits[target]) - max - std::log(sum);
}

}  // namespace

Result<std::unique_ptr<Scorer>> Scorer::create(Context& ctx, const models::LlamaModel& model,
                                               int64_t max_length) {
  const int64_t num_pages = (max_length + kv::kPageTokens - 1) / kv::kPageTokens;
  auto cache = model.make_cache(num_pages, 1);
  if (!cache) return cache.error();
  return std::unique_ptr<Scorer>(new Scorer(ctx, model, max_length, *std::move(cache)));
}

Scorer::Scorer(Context& ctx, const models::LlamaModel& model, int64_t max_length, kv::KvCache cache)
    : ctx_(ctx),
      model_(model),
      max_length_(max_length),
      cache_(std::move(cache)),
      block_table_(cache_.num_pages()) {
  std::iota(block_table_.begin(), block_table_.end(), 0);
}

std::vector<double> Scorer::log_probs(std::span<const int32_t> tokens) {
  const auto num_inputs = static_cast<int64_t>(tokens.size()) - 1;
  COMET_CHECK(num_inputs >= 0 && num_inputs <= max_length_, "{} tokens, room for {}", tokens.size(),
              max_length_);
  std::vector<double> scores(num_inputs);
  for (int64_t begin = 0; begin < num_inputs; begin += kChunkTokens) {
    const int64_t count = std::min(kChunkTokens, num_inputs - begin);
    const ArenaScope scope(ctx_.arena);
    std::vector<int32_t> positions(count);
    std::iota(positions.begin(), positions.end(), static_cast<int32_t>(begin));
    std::vector<int32_t> rows(count);
    std::iota(rows.begin(), rows.end(), 0);
    const std::array<int32_t, 2> cu_seqlens{0, static_cast<int32_t>(count)};
    const std::array<int32_t, 1> kv_lens{static_cast<int32_t>(begin + count)};
    const std::array<int32_t, 1> slots{0};
    const Batch batch{tokens.subspan(begin, count),
                      positions,
                      cu_seqlens,
                      kv_lens,
                      {block_table_.data(), {1, static_cast<int64_t>(block_table_.size())}},
                      rows,
                      slots};
    const Tensor logits = model_.forward(ctx_, batch, cache_);
    const View<float, 2> view = logits.view<float, 2>();
    ctx_.pool.parallel_for(count, [&](int64_t i, int) {
      const std::span<const float> row{view.row(i), static_cast<size_t>(view.size(1))};
      scores[begin + i] = log_softmax_at(row, tokens[begin + i + 1]);
    });
  }
  return scores;
}

}  // namespace comet::study
