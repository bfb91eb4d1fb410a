#include "comet/quant/blocks/block_planner.h"

#include <algorithm>
#include <optional>

#include "comet/io/file.h"
#include "comet/models/load.h"
#include "comet/nn/token_scores.h"
#include "comet/quant/blocks/simulated_input.h"
#include "comet/quant/blocks/site_candidates.h"

namespace comet::quant {
namespace {

constexpr int64_t kRowsPerStep = 128;  // whose logits are held at once, beside the original's

/// The walk over the float model: what its rules share.
struct Walk {
  Backend& backend;
  const io::ModelConfig& config;
  const QuantizeOptions& options;
  models::CheckpointSource source;
  CalibrationSet set;
  Matrix hidden = {};  // the input of the present layer
};

/// `layer` as it will be quantized, with its statistics.
Result<LayerStage> folded_stage(Walk& walk, int64_t layer_idx) {
  auto layer = load_layer_weights(walk.source, walk.config, layer_idx);
  if (!layer) return layer.error();
  LayerStage stage{walk.backend, walk.options, walk.config,
                   walk.set,     walk.hidden,  *std::move(layer)};
  if (const Status status = fold_and_measure(stage); !status) return status.error();
  return stage;
}

Status advance(Walk& walk, const LayerWeights& folded) {
  const auto bound = bind_float_layer(folded, walk.config, walk.backend.device);
  if (!bound) return bound.error();
  const LayerRun run{walk.config, walk.set, kv::kv32_format()};
  return run_layer(walk.backend, *bound, run, walk.hidden, /*update=*/true);
}

std::vector<double> errors_of(const std::vector<SiteCandidate>& candidates) {
  std::vector<double> errors;
  for (const SiteCandidate& candidate : candidates) errors.push_back(candidate.relative_error);
  return errors;
}

std::vector<int64_t> counts_of(const std::vector<SiteCandidate>& candidates) {
  std::vector<int64_t> counts;
  for (const SiteCandidate& candidate : candidates) {
    counts.push_back(candidate.layout.int8_blocks);
  }
  return counts;
}

/// The float model's logits on a part of the text, and what it says when one site is quantized.
class KlMeter {
 public:
  static Result<KlMeter> create(Walk& walk, const io::Checkpoint& checkpoint) {
    auto model = models::load_model(walk.backend.host, checkpoint, "");
    if (!model) return model.error();
    KlMeter meter;
    meter.set_ = planning_samples(walk.set, kMaxKlTokens);
    const int64_t num_tokens = meter.set_.num_tokens();
    const int64_t logit_bytes = num_tokens * walk.config.vocab_size * 4;
    const auto memory = io::available_memory_bytes();
    if (!memory) return memory.error();
    if (logit_bytes + (*model)->bytes_read_per_step() > static_cast<int64_t>(*memory)) {
      return make_error(ErrorCode::kResourceExhausted,
                        "--int8-rule kl keeps the whole model at hand, {} bytes and {} of logits, "
                        "but only {} are available; use --int8-rule error",
                        (*model)->bytes_read_per_step(), logit_bytes, *memory);
    }
    auto hidden = embed_samples(walk.backend.host, walk.source, walk.config, meter.set_);
    if (!hidden) return hidden.error();
    meter.hidden_ = *std::move(hidden);
    meter.model_ = *std::move(model);
    Matrix last = meter.hidden_;
    if (const Status status = meter.run_from(walk, 0, last); !status) return status.error();
    meter.logits_ = Matrix(num_tokens, walk.config.vocab_size);
    meter.for_logits(walk, last, [&](int64_t row, std::span<const float> logits) {
      std::copy(logits.begin(), logits.end(), meter.logits_.row(row));
    });
    return meter;
  }

  /// KL(float‖site quantized) in nats a token.
  Result<double> measure(Walk& walk, const LayerWeights& folded, size_t site_idx,
                         const formats::SiteLayout& layout) {
    auto bound = bind_float_layer(folded, walk.config, walk.backend.device);
    if (!bound) return bound.error();
    auto linear = bind_simulated_linear(folded, walk.config, kSites[site_idx], layout,
                                        walk.backend.host.caps);
    if (!linear) return linear.error();
    *linears_of(*bound)[site_idx] = *std::move(linear);
    Matrix x = hidden_;
    const LayerRun run{walk.config, set_, kv::kv32_format()};
    if (const Status ran = run_layer(walk.backend, *bound, run, x, true); !ran) return ran.error();
    if (const Status ran = run_from(walk, folded.layer_idx + 1, x); !ran) return ran.error();
    std::vector<double> kl(x.rows);
    for_logits(walk, x, [&](int64_t row, std::span<const float> logits) {
      const std::span<const float> original(logits_.row(row), static_cast<size_t>(logits_.cols));
      kl[row] = nn::kl_divergence(original, logits);
    });
    double total = 0.0;
    for (const double value : kl) total += value;
    return total / static_cast<double>(x.rows);
  }

  Status advance(Walk& walk, int64_t layer_idx) {
    const LayerRun run{walk.config, set_, kv::kv32_format()};
    return run_layer(walk.backend, model_->layers()[layer_idx], run, hidden_, true);
  }

 private:
  Status run_from(Walk& walk, int64_t first_layer, Matrix& x) const {
    const LayerRun run{walk.config, set_, kv::kv32_format()};
    for (int64_t i = first_layer; i < walk.config.num_layers; ++i) {
      if (const Status s = run_layer(walk.backend, model_->layers()[i], run, x, true); !s) return s;
    }
    return {};
  }

  void for_logits(Walk& walk, const Matrix& x,
                  const std::function<void(int64_t, std::span<const float>)>& visit) const {
    for (int64_t begin = 0; begin < x.rows; begin += kRowsPerStep) {
      const ArenaScope scope(walk.backend.host.arena);
      const int64_t count = std::min(kRowsPerStep, x.rows - begin);
      const Tensor logits = model_->logits(walk.backend.host, {x.row(begin), {count, x.cols}});
      const View<const float, 2> rows = logits.view<const float, 2>();
      walk.backend.host.pool.parallel_for(count, [&](int64_t i, int) {
        visit(begin + i, std::span(rows.row(i), static_cast<size_t>(rows.size(1))));
      });
    }
  }

  CalibrationSet set_;
  std::unique_ptr<models::LlamaModel> model_;
  Matrix hidden_;  // the input of the present layer
  Matrix logits_;  // of the float model
};

/// Losses of every site of one layer; `meter` is nullptr for output errors.
Result<SiteLosses> measure_layer(Walk& walk, int64_t layer_idx, KlMeter* meter) {
  auto stage = folded_stage(walk, layer_idx);
  if (!stage) return stage.error();
  SiteLosses losses;
  for (size_t i = 0; i < kNumSites; ++i) {
    const std::vector<SiteCandidate> candidates = site_candidates(*stage, i);
    std::vector<double> values = errors_of(candidates);
    if (meter != nullptr && values[0] > 0.0) {
      // KL is quadratic in a small error, so one run of the model gives the whole curve.
      const auto kl = meter->measure(walk, stage->layer, i, candidates[0].layout);
      if (!kl) return kl.error();
      const double kl_per_error = *kl / values[0];
      for (double& value : values) value *= kl_per_error;
    }
    losses[i] = interpolated(counts_of(candidates), values);
  }
  if (meter != nullptr) {
    if (const Status status = meter->advance(walk, layer_idx); !status) return status.error();
  }
  if (const Status status = advance(walk, stage->layer); !status) return status.error();
  return losses;
}

}  // namespace

CalibrationSet planning_samples(const CalibrationSet& set, int64_t max_tokens) {
  const auto available = static_cast<int64_t>(set.samples.size());
  const int64_t longest =
      std::max<int64_t>(1, (set.num_tokens() + available - 1) / std::max<int64_t>(1, available));
  const int64_t count = std::clamp<int64_t>(max_tokens / longest, 1, available);
  CalibrationSet chosen;
  for (int64_t i = 0; i < count; ++i) chosen.samples.push_back(set.samples[i * available / count]);
  return chosen;
}

Result<BlockPlan> plan_blocks(Context& ctx, const io::Checkpoint& checkpoint,
                              const QuantizeOptions& options, const CalibrationSet& set,
                              const std::function<Status(int64_t)>& on_layer) {
  const auto config = io::parse_model_config(checkpoint.config(), checkpoint.config_path());
  if (!config) return config.error();
  const double share = options.int8_share.value_or(0.0);
  // At both ends there is nothing to choose.
  if (options.int8_rule == BlockRule::kFixed || share == 0.0 || share == 1.0) {
    return fixed_block_plan(options, *config);
  }
  const auto backend = make_cpu_backend(ctx);
  Walk walk{*backend, *config, options, models::CheckpointSource(checkpoint),
            planning_samples(set, kMaxErrorTokens)};
  auto hidden = embed_samples(ctx, walk.source, *config, walk.set);
  if (!hidden) return hidden.error();
  walk.hidden = *std::move(hidden);
  std::optional<KlMeter> meter;
  if (options.int8_rule == BlockRule::kKl) {
    auto created = KlMeter::create(walk, checkpoint);
    if (!created) return created.error();
    meter = *std::move(created);
  }
  std::vector<SiteLosses> losses;
  for (int64_t i = 0; i < config->num_layers; ++i) {
    auto measured = measure_layer(walk, i, meter ? &*meter : nullptr);
    if (!measured) return measured.error();
    losses.push_back(*std::move(measured));
    const Status status = on_layer ? on_layer(i) : Status();
    if (!status) return status.error();
  }
  return block_plan_of_losses(losses, *config, share);
}

}  // namespace comet::quant
