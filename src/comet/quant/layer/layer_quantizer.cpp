#include "comet/quant/layer/layer_quantizer.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "comet/quant/fmpq/activation_clip.h"
#include "comet/quant/fmpq/activation_rows.h"
#include "comet/quant/fmpq/equalizer.h"
#include "comet/quant/fmpq/permutation.h"
#include "comet/quant/fmpq/rotation.h"
#include "comet/quant/layer/key_smoothing.h"
#include "comet/quant/matrix_product.h"
#include "comet/quant/weights/hessian.h"
#include "comet/quant/weights/weight_methods.h"

namespace comet::quant {
namespace {

using formats::SiteLayout;

constexpr int64_t kMaxKeptRows = 1024;

/// Hands every site's rows to `handle(site, rows)` while the float layer runs.
class SiteObserver final : public nn::InputObserver {
 public:
  using Handler = std::function<Status(size_t site_idx, View<const float, 2> rows)>;
  SiteObserver(models::LlamaLayer& layer, Handler handle) : handle_(std::move(handle)) {
    const auto linears = linears_of(layer);
    for (size_t i = 0; i < kNumSites; ++i) {
      linears[i]->set_observer(this);
      site_of_[linears[i]] = i;
    }
  }
  void on_input(const nn::Linear& linear, View<const float, 2> rows) override {
    if (status_) status_ = handle_(site_of_.at(&linear), rows);
  }
  [[nodiscard]] const Status& status() const { return status_; }

 private:
  Handler handle_;
  std::map<const nn::Linear*, size_t> site_of_;
  Status status_;
};

/// One layer on its way: what the stages below pass on.
struct Stage {
  Context& ctx;
  const QuantizeOptions& options;
  const io::ModelConfig& config;
  const CalibrationSet& set;
  Matrix& hidden;
  LayerWeights layer;
  std::array<SiteStats, kNumSites> stats;
  std::array<SiteLayout, kNumSites> layouts;
  std::array<SymmetricMatrix, kNumSites> hessians;
  std::array<int64_t, kNumSites> num_equalized{};
};

/// Runs the float layer (FP32 cache) over the calibration tokens and shows `handle` every site.
Status observe(Stage& s, const SiteObserver::Handler& handle) {
  auto bound = bind_float_layer(s.layer, s.config, s.ctx.caps);
  if (!bound) return bound.error();
  SiteObserver observer(*bound, handle);
  const LayerRun run{s.config, s.set, kv::kv32_format()};
  const Status ran = run_layer(s.ctx, *bound, run, s.hidden, false);
  return ran ? observer.status() : ran;
}

Status collect_stats(Stage& s) {
  std::vector<SiteStatsAccumulator> accumulators;
  for (const Site site : kSites) {
    accumulators.emplace_back(s.layer.site_name(site), s.layer.spec(site).k, s.set.num_tokens(),
                              kMaxKeptRows);
  }
  const Status observed = observe(s, [&](size_t i, View<const float, 2> rows) {
    return accumulators[i].add(s.ctx.pool, rows);
  });
  if (!observed) return observed;
  for (size_t i = 0; i < kNumSites; ++i) s.stats[i] = accumulators[i].finish();
  return {};
}

/// Exponents of o_in: one for all query heads that read a V channel, from the largest activation
/// and the largest column among them.
std::vector<int> attention_exponents(const LayerWeights& layer, std::span<const float> p999,
                                     std::span<const float> norms) {
  const int64_t head_dim = layer.head_dim;
  const int64_t group_size = layer.num_heads / layer.num_kv_heads;
  const auto v_channel = [&](int64_t c) {
    return c / head_dim / group_size * head_dim + c % head_dim;
  };
  std::vector<float> v_p999(layer.num_kv_heads * head_dim, 0.0F);
  std::vector<float> v_norms(v_p999.size(), 0.0F);
  const auto k = static_cast<int64_t>(p999.size());
  for (int64_t c = 0; c < k; ++c) {
    v_p999[v_channel(c)] = std::max(v_p999[v_channel(c)], p999[c]);
    v_norms[v_channel(c)] = std::max(v_norms[v_channel(c)], norms[c]);
  }
  const std::vector<int> v_exponents = equalizer_exponents(v_p999, v_norms);
  std::vector<int> exponents(k);
  for (int64_t c = 0; c < k; ++c) exponents[c] = v_exponents[v_channel(c)];
  return exponents;
}

void equalize(Stage& s) {
  std::array<std::vector<int>, kNumSites> exponents;
  for (size_t i = 0; i < kNumSites; ++i) {  // all from the original weights
    const std::vector<float> norms = column_norms(s.layer.weights[i]);
    exponents[i] = kSites[i] == Site::kOIn ? attention_exponents(s.layer, s.stats[i].p999, norms)
                                           : equalizer_exponents(s.stats[i].p999, norms);
  }
  for (size_t i = 0; i < kNumSites; ++i) {
    fold_exponents(s.layer, kSites[i], exponents[i]);
    scale_stats(s.stats[i], exponents[i]);
    s.num_equalized[i] = std::count_if(exponents[i].begin(), exponents[i].end(),
                                       [](int exponent) { return exponent != 0; });
  }
}

/// `rows` with channel order[i] moved to i.
void permute_channels(Matrix& rows, std::span<const int32_t> order) {
  std::vector<float> old(rows.cols);
  for (int64_t t = 0; t < rows.rows; ++t) {
    std::copy_n(rows.row(t), rows.cols, old.begin());
    for (int64_t c = 0; c < rows.cols; ++c) rows.row(t)[c] = old[order[c]];
  }
}

Status lay_out(Stage& s) {
  const auto blocks = plan_layer_blocks(s.options, s.config);
  if (!blocks) return blocks.error();
  for (size_t i = 0; i < kNumSites; ++i) {
    s.layouts[i] = make_site_layout(s.layer.site_name(kSites[i]), s.stats[i].p999, (*blocks)[i],
                                    s.options.act_scale, s.options.sort_channels);
  }
  // down_in: gate and up produce the stored order, and down's weight follows.
  const auto down = static_cast<size_t>(Site::kDownIn);
  const std::vector<int32_t> order = absorb_order(s.layouts[down]);
  if (order.empty()) return {};
  permute_ffn_rows(s.layer, order);
  permute_channels(s.layer.weights[down], order);
  permute_channels(s.stats[down].kept_rows, order);
  return {};
}

Status accumulate_hessians(Stage& s) {
  std::vector<HessianAccumulator> accumulators(s.layouts.begin(), s.layouts.end());
  const Status observed = observe(s, [&](size_t i, View<const float, 2> rows) {
    accumulators[i].add(s.ctx, rows);
    return Status();
  });
  for (size_t i = 0; i < kNumSites; ++i) s.hessians[i] = accumulators[i].finish(s.ctx);
  return observed;
}

/// Mean square of every stored channel of quantized rows.
std::vector<float> channel_importance(const Matrix& rows) {
  std::vector<double> squares(rows.cols, 0.0);
  for (int64_t t = 0; t < rows.rows; ++t) {
    for (int64_t c = 0; c < rows.cols; ++c) {
      squares[c] += static_cast<double>(rows.row(t)[c]) * rows.row(t)[c];
    }
  }
  std::vector<float> importance(rows.cols);
  for (int64_t c = 0; c < rows.cols; ++c) {
    importance[c] = static_cast<float>(squares[c] / static_cast<double>(rows.rows));
  }
  return importance;
}

double sum_of_squares(const Matrix& a) {
  double total = 0.0;
  for (const float x : a.values) total += static_cast<double>(x) * x;
  return total;
}

double sum_of_squared_differences(const Matrix& a, const Matrix& b) {
  double total = 0.0;
  for (size_t i = 0; i < a.values.size(); ++i) {
    const double d = static_cast<double>(a.values[i]) - b.values[i];
    total += d * d;
  }
  return total;
}

/// Signal against error of the linear's output, in dB; the cap stands for "no error".
double output_snr_db(Context& ctx, const Matrix& x, const Matrix& weight, const Matrix& quantized_x,
                     const Matrix& decoded) {
  constexpr double kMaxDb = 200.0;
  const Matrix want = matrix_product(ctx, x, weight);
  const Matrix got = matrix_product(ctx, quantized_x, decoded);
  const double signal = sum_of_squares(want);
  const double noise = sum_of_squared_differences(want, got);
  if (noise <= signal * 1e-20) return kMaxDb;
  return std::clamp(10.0 * std::log10(signal / noise), -kMaxDb, kMaxDb);
}

formats::QuantizedWeight to_quantized_weight(const Stage& s, size_t i, CodedWeight coded) {
  formats::QuantizedWeight weight;
  const formats::LinearSpec& spec = s.layer.specs[i];
  weight.name = spec.name;
  weight.parts = spec.parts;
  weight.part_rows = spec.part_rows;
  weight.site = s.layouts[i];
  weight.granularity = coded.grid.granularity;
  weight.codes = std::move(coded.codes);
  weight.channel_scale = std::move(coded.grid.channel_scale);
  weight.group_scale = std::move(coded.grid.group_scale);
  weight.group_multiplier = std::move(coded.grid.group_multiplier);
  weight.group_offset = std::move(coded.grid.group_offset);
  weight.bias = s.layer.biases[i];
  return weight;
}

struct StoredSite {
  Matrix weight;  // [n, k_padded] stored, rotated
  Matrix x;       // kept rows, the same
};

StoredSite store_site(const Stage& s, size_t i) {
  StoredSite stored{stored_columns(s.layer.weights[i], s.layouts[i]),
                    stored_rows(s.ctx.pool, s.layouts[i], s.stats[i].kept_rows.view())};
  rotate_int4_blocks(s.ctx.pool, stored.weight, s.layouts[i]);
  return stored;
}

Status quantize_site(Stage& s, size_t i, QuantizedLayer& out) {
  const StoredSite stored = store_site(s, i);
  const Matrix quantized_x = quantized_rows(s.ctx.pool, s.layouts[i], stored.x);
  const std::vector<float> importance = channel_importance(quantized_x);
  const auto method = find_weight_method(s.options.weights);
  if (!method) return method.error();
  const WeightProblem problem{s.layer.specs[i].name, stored.weight,
                              s.options.granularity, importance,
                              &s.hessians[i],        s.options.damp};
  auto coded = (*method)->quantize(s.ctx.pool, problem);
  if (!coded) return coded.error();
  const Matrix decoded = decoded_weight(s.ctx.pool, *coded);
  LinearReport& report = out.reports[i];
  report.name = s.layer.specs[i].name;
  report.rows = stored.weight.rows;
  report.blocks = s.layouts[i].num_blocks();
  report.int8_blocks = s.layouts[i].int8_blocks;
  report.num_equalized = s.num_equalized[i];
  report.clip = s.layouts[i].clip;
  report.weight_mse = sum_of_squared_differences(stored.weight, decoded) /
                      static_cast<double>(stored.weight.rows * s.layouts[i].k);
  report.output_snr_db = output_snr_db(s.ctx, stored.x, stored.weight, quantized_x, decoded);
  out.linears[i] = to_quantized_weight(s, i, *std::move(coded));
  return {};
}

Status prepare(Stage& s) {
  if (s.options.smooth_keys) {
    auto bound = bind_float_layer(s.layer, s.config, s.ctx.caps);
    if (!bound) return bound.error();
    fold_key_scales(s.layer, key_scales(s.ctx, *bound, s.config, s.set, s.hidden));
  }
  if (const Status status = collect_stats(s); !status) return status;
  if (s.options.equalize) equalize(s);
  if (s.options.rotate_values) {
    // Behind the equalizer: rotation would spread a large V channel over its whole head.
    fold_value_rotation(s.layer);
    if (const Status status = collect_stats(s); !status) return status;
  }
  if (const Status status = lay_out(s); !status) return status;
  for (size_t i = 0; s.options.search_activation_clip && i < kNumSites; ++i) {
    const StoredSite stored = store_site(s, i);
    s.layouts[i].clip = search_activation_clip(s.ctx, s.layouts[i], stored.x, stored.weight);
  }
  return {};
}

}  // namespace

Result<std::array<int64_t, kNumSites>> plan_layer_blocks(const QuantizeOptions& options,
                                                         const io::ModelConfig& config) {
  const std::vector<formats::LinearSpec> specs = models::llama_linear_specs(config, 0);
  std::vector<SiteShape> shapes;
  for (const formats::LinearSpec& spec : specs) shapes.push_back({spec.n(), spec.k});
  std::array<int64_t, kNumSites> blocks{};
  if (options.int8_share) {
    const auto planned = plan_int8_blocks(shapes, *options.int8_share);
    if (!planned) return planned.error();
    std::copy(planned->begin(), planned->end(), blocks.begin());
    return blocks;
  }
  for (size_t i = 0; i < kNumSites; ++i) {
    if (options.int8_blocks > shapes[i].num_blocks()) {
      return make_error(ErrorCode::kInvalidArgument,
                        "--int8-blocks {}: {} has only {} blocks of 128 channels",
                        options.int8_blocks, specs[i].name, shapes[i].num_blocks());
    }
    blocks[i] = options.int8_blocks;
  }
  return blocks;
}

Result<QuantizedLayer> quantize_layer(Context& ctx, const QuantizeOptions& options,
                                      const io::ModelConfig& config, const CalibrationSet& set,
                                      Matrix& hidden, LayerWeights layer) {
  Stage s{ctx, options, config, set, hidden, std::move(layer), {}, {}, {}, {}};
  if (const Status status = prepare(s); !status) return status.error();
  const auto method = find_weight_method(options.weights);
  if (!method) return method.error();
  if ((*method)->needs_hessian) {
    if (const Status status = accumulate_hessians(s); !status) return status.error();
  }
  QuantizedLayer out;
  for (size_t i = 0; i < kNumSites; ++i) {
    if (const Status status = quantize_site(s, i, out); !status) return status.error();
    s.hessians[i] = {};
  }
  out.norms = std::move(s.layer.norms);
  return out;
}

}  // namespace comet::quant
