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
  COMET_CHECK(!tokens.empty(), "no tokens");
  std::vector<double> scores(tokens.size() - 1);
  for_each_row(tokens.first(scores.size()), 0, [&](int64_t i, std::span<const float> logits) {
    scores[i] = log_softmax_at(logits, tokens[i + 1]);
  });
  return scores;
}

void Scorer::for_each_row(std::span<const int32_t> tokens, int64_t first_row,
                          const std::function<void(int64_t, std::span<const float>)>& visit) {
  const auto num_inputs = static_cast<int64_t>(tokens.size());
  COMET_CHECK(num_inputs <= max_length_, "{} tokens, room for {}", num_inputs, max_length_);
  for (int64_t begin = 0; begin < num_inputs; begin += kChunkTokens) {
    const int64_t count = std::min(kChunkTokens, num_inputs - begin);
    const int64_t skipped = std::clamp<int64_t>(first_row - begin, 0, count);
    const ArenaScope scope(ctx_.arena);
    std::vector<int32_t> positions(count);
    std::iota(positions.begin(), positions.end(), static_cast<int32_t>(begin));
    std::vector<int32_t> rows(count - skipped);
    std::iota(rows.begin(), rows.end(), static_cast<int32_t>(skipped));
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
    ctx_.pool.parallel_for(count - skipped, [&](int64_t i, int) {
      visit(begin + skipped + i, {view.row(i), static_cast<size_t>(view.size(1))});
    });
  }
}

}  // namespace comet::study
