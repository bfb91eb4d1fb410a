#include "comet/study/scorer.h"

#include <algorithm>
#include <numeric>

#include "comet/nn/token_scores.h"

namespace comet::study {
namespace {

constexpr int64_t kChunkTokens = 256;  // logits of a chunk are held at once

/// Calls run(begin, count, skipped) for the chunks of num_inputs tokens; the first `skipped` rows
/// of a chunk stand before first_row.
template <typename Run>
void for_each_chunk(int64_t num_inputs, int64_t first_row, const Run& run) {
  for (int64_t begin = 0; begin < num_inputs; begin += kChunkTokens) {
    const int64_t count = std::min(kChunkTokens, num_inputs - begin);
    run(begin, count, std::clamp<int64_t>(first_row - begin, 0, count));
  }
}

std::span<const float> row_of(const View<float, 2>& logits, int64_t i) {
  return {logits.row(i), static_cast<size_t>(logits.size(1))};
}

}  // namespace

Result<std::unique_ptr<Scorer>> Scorer::create(Context& ctx, const models::LlamaModel& model,
                                               int64_t max_length) {
  const int64_t num_pages = (max_length + kv::kPageTokens - 1) / kv::kPageTokens;
  auto cache = model.make_cache(ctx, num_pages, 1);
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
    scores[i] = nn::log_probability(logits, tokens[i + 1]);
  });
  return scores;
}

Tensor Scorer::forward_chunk(std::span<const int32_t> tokens, int64_t begin, int64_t count,
                             int64_t skipped) {
  COMET_CHECK(begin + count <= max_length_, "{} tokens, room for {}", begin + count, max_length_);
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
  return copy_to_host(ctx_, model_.forward(ctx_, batch, cache_));
}

void Scorer::for_each_row(std::span<const int32_t> tokens, int64_t first_row,
                          const std::function<void(int64_t, std::span<const float>)>& visit) {
  const auto run = [&](int64_t begin, int64_t count, int64_t skipped) {
    const ArenaScope scope(ctx_.arena);
    const Tensor tensor = forward_chunk(tokens, begin, count, skipped);
    const View<float, 2> logits = tensor.view<float, 2>();
    ctx_.pool.parallel_for(count - skipped,
                           [&](int64_t i, int) { visit(begin + skipped + i, row_of(logits, i)); });
  };
  for_each_chunk(static_cast<int64_t>(tokens.size()), first_row, run);
}

void Scorer::for_each_row_pair(
    Scorer& base, Scorer& candidate, std::span<const int32_t> tokens, int64_t first_row,
    const std::function<void(int64_t, std::span<const float>, std::span<const float>)>& visit) {
  Context& ctx = base.ctx_;
  const auto run = [&](int64_t begin, int64_t count, int64_t skipped) {
    const ArenaScope scope(ctx.arena);
    const Tensor base_tensor = base.forward_chunk(tokens, begin, count, skipped);
    const Tensor candidate_tensor = candidate.forward_chunk(tokens, begin, count, skipped);
    const View<float, 2> expected = base_tensor.view<float, 2>();
    const View<float, 2> given = candidate_tensor.view<float, 2>();
    COMET_CHECK(expected.size(1) == given.size(1), "vocabularies of {} and {}", expected.size(1),
                given.size(1));
    ctx.pool.parallel_for(count - skipped, [&](int64_t i, int) {
      visit(begin + skipped + i, row_of(expected, i), row_of(given, i));
    });
  };
  for_each_chunk(static_cast<int64_t>(tokens.size()), first_row, run);
}

}  // namespace comet::study
