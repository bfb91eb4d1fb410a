#include "comet/quant/run/quality_gate.h"

#include <algorithm>
#include <cmath>

#include "comet/base/json.h"
#include "comet/models/load.h"
#include "comet/nn/token_scores.h"

namespace comet::quant {
namespace {

constexpr int64_t kRowsPerStep = 128;  // whose logits of both models are held at once

struct RowScore {
  double log_before = 0.0;
  double log_after = 0.0;
  double kl = 0.0;
};

/// Scores of the rows [begin, begin + scores.size()).
void score_rows(Context& ctx, const models::LlamaModel& original,
                const models::LlamaModel& quantized, const QualityGate& gate,
                std::span<const int32_t> targets, int64_t begin, std::span<RowScore> scores) {
  const ArenaScope scope(ctx.arena);
  const auto count = static_cast<int64_t>(scores.size());
  const auto rows_of = [&](const Matrix& hidden) {
    return View<const float, 2>{hidden.row(begin), {count, hidden.cols}};
  };
  const Tensor before = original.logits(ctx, rows_of(gate.original_hidden));
  const Tensor after = quantized.logits(ctx, rows_of(gate.quantized_hidden));
  const auto row_of = [](const Tensor& logits, int64_t i) {
    return std::span(logits.view<const float, 2>().row(i), static_cast<size_t>(logits.size(1)));
  };
  ctx.pool.parallel_for(count, [&](int64_t i, int) {
    const int32_t target = targets[begin + i];
    scores[i].log_before = nn::log_probability(row_of(before, i), target);
    scores[i].log_after = nn::log_probability(row_of(after, i), target);
    scores[i].kl = nn::kl_divergence(row_of(before, i), row_of(after, i));
  });
}

GateResult summarize(std::span<const RowScore> scores) {
  double before = 0.0;
  double after = 0.0;
  double kl = 0.0;
  for (const RowScore& score : scores) {
    before -= score.log_before;
    after -= score.log_after;
    kl += score.kl;
  }
  const auto n = static_cast<double>(scores.size());
  return {static_cast<int64_t>(scores.size()), std::exp(before / n), std::exp(after / n), kl / n};
}

}  // namespace

GateSet cut_gate_windows(const Documents& documents, int64_t length, int64_t max_tokens) {
  COMET_CHECK(length > 0, "windows of {} tokens", length);
  GateSet set;
  int64_t left = max_tokens;
  for (const auto& document : hold_back_for_gate(documents).gate) {
    const int64_t num_targets = static_cast<int64_t>(document.size()) - 1;
    for (int64_t begin = 0; begin < num_targets && left > 0; begin += length) {
      const int64_t count = std::min({length, num_targets - begin, left});
      const auto first = document.begin() + begin;
      set.inputs.samples.emplace_back(first, first + count);
      set.targets.emplace_back(first + 1, first + 1 + count);
      left -= count;
    }
  }
  return set;
}

Result<QualityGate> QualityGate::create(Context& ctx, const io::Checkpoint& checkpoint,
                                        const io::ModelConfig& config, const GateSet& set) {
  for (const CalibrationSet& tokens : {set.inputs, CalibrationSet{set.targets}}) {
    if (const Status status = check_calibration(tokens, config); !status) return status.error();
  }
  QualityGate gate(checkpoint, config, set);
  auto hidden = embed_samples(ctx, models::CheckpointSource(checkpoint), config, set.inputs);
  if (!hidden) return hidden.error();
  gate.original_hidden = *hidden;
  gate.quantized_hidden = *std::move(hidden);
  return gate;
}

Status QualityGate::advance(Backend& backend, int64_t layer_idx,
                            const models::LlamaLayer& quantized, const kv::KvFormat& kv_format,
                            const kv::KvOptions& kv_options) {
  const auto format = models::parse_model_format(config_, checkpoint_->config_path());
  if (!format) return format.error();
  const models::CheckpointSource source(*checkpoint_);
  Context& ctx = backend.device;
  auto original = models::LlamaLayer::load(config_, layer_idx, *format, source, ctx.caps);
  if (!original) return original.error();
  if (Status moved = original->move_to_device(ctx); !moved) return moved;
  const LayerRun before{config_, set_->inputs, *format->kv, format->kv_options};
  const Status ran = run_layer(backend, *original, before, original_hidden, /*update=*/true);
  if (!ran) return ran;
  const LayerRun after{config_, set_->inputs, kv_format, kv_options};
  return run_layer(backend, quantized, after, quantized_hidden, /*update=*/true);
}

Result<GateResult> QualityGate::score(Context& ctx, const io::Checkpoint& quantized) const {
  const auto before = models::load_model(ctx, *checkpoint_, "");
  if (!before) return before.error();
  const auto after = models::load_model(ctx, quantized, "");
  if (!after) return after.error();
  std::vector<int32_t> targets;
  for (const auto& sample : set_->targets) {
    targets.insert(targets.end(), sample.begin(), sample.end());
  }
  std::vector<RowScore> scores(targets.size());
  for (size_t begin = 0; begin < scores.size(); begin += kRowsPerStep) {
    const size_t count = std::min<size_t>(kRowsPerStep, scores.size() - begin);
    score_rows(ctx, **before, **after, *this, targets, static_cast<int64_t>(begin),
               std::span(scores).subspan(begin, count));
  }
  const GateResult result = summarize(scores);
  if (!std::isfinite(result.perplexity_before) || !std::isfinite(result.perplexity_after)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "the quality gate finds a perplexity of {} before and {} after quantization; "
                      "a model with NaN or infinite outputs is not written",
                      result.perplexity_before, result.perplexity_after);
  }
  return result;
}

}  // namespace comet::quant
