#include "comet/quant/layer/layer_quantizer.h"

#include "comet/base/clock.h"
#include "comet/base/log.h"
#include "comet/quant/fmpq/activation_clip.h"
#include "comet/quant/fmpq/activation_rows.h"
#include "comet/quant/fmpq/permutation.h"
#include "comet/quant/fmpq/rotation.h"
#include "comet/quant/weights/weight_methods.h"

namespace comet::quant {
namespace {

void lay_out(LayerStage& s, const SiteBlocks& int8_blocks) {
  for (size_t i = 0; i < kNumSites; ++i) {
    // Without statistics there is nothing to sort by.
    s.stats[i].p999.resize(s.layer.specs[i].k);
    s.stats[i].kept_rows.cols = s.layer.specs[i].k;
    s.layouts[i] = make_site_layout(s.layer.site_name(kSites[i]), s.stats[i].p999, int8_blocks[i],
                                    s.options.act_scale, s.options.sort_channels);
  }
  // down_in: gate and up produce the stored order, and down's weight follows.
  const auto down = static_cast<size_t>(Site::kDownIn);
  const std::vector<int32_t> order = absorb_order(s.layouts[down]);
  if (order.empty()) return;
  permute_ffn_rows(s.layer, order);
  ThreadPool& pool = s.backend.host.pool;
  permute_columns(pool, s.layer.weights[down], order);
  permute_columns(pool, s.stats[down].kept_rows, order);
  s.inputs.permute(down, order);
}

/// Seconds of one stage after another, for the log.
class StageTimes {
 public:
  void end(std::string_view stage) {
    text_ += fmt::format("{}{} {:.2f} s", text_.empty() ? "" : ", ", stage, stopwatch_.seconds());
    stopwatch_.restart();
  }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  Stopwatch stopwatch_;
  std::string text_;
};

using Hessians = std::array<std::unique_ptr<SiteHessian>, kNumSites>;

Result<Hessians> accumulate_hessians(LayerStage& s) {
  Hessians hessians;
  for (size_t i = 0; i < kNumSites; ++i) hessians[i] = s.backend.make_hessian(s.layouts[i]);
  const Status observed = observe_sites(s, [&](size_t i, ConstRows rows) {
    hessians[i]->add(rows);
    return Status();
  });
  if (!observed) return observed.error();
  return hessians;
}

/// From the inputs that were kept, which are dropped.
std::unique_ptr<SiteHessian> hessian_of_inputs(LayerStage& s, size_t i) {
  auto hessian = s.backend.make_hessian(s.layouts[i]);
  hessian->add(s.inputs.rows(i));
  s.inputs.drop(i);
  return hessian;
}

struct StoredSite {
  Matrix weight;  // [n, k_padded] stored, rotated
  Matrix x;       // kept rows, the same
};

StoredSite store_site(const LayerStage& s, size_t i) {
  StoredSite stored{stored_columns(s.backend.host.pool, s.layer.weights[i], s.layouts[i]),
                    stored_rows(s.backend.host.pool, s.layouts[i], s.stats[i].kept_rows.view())};
  rotate_int4_blocks(s.backend.host.pool, stored.weight, s.layouts[i]);
  return stored;
}

Status quantize_site(LayerStage& s, size_t i, SiteHessian* hessian, QuantizedLayer& out) {
  const StoredSite stored = store_site(s, i);
  auto quantized = quantize_linear(
      s.backend, s.options,
      {s.layer.specs[i], s.layouts[i], stored.weight, stored.x, s.layer.biases[i], hessian});
  if (!quantized) return quantized.error();
  out.reports[i] = std::move(quantized->report);
  out.reports[i].num_equalized = s.num_equalized[i];
  out.reports[i].smoothing = s.smoothing[i];
  out.linears[i] = std::move(quantized->weight);
  return {};
}

void search_clips(LayerStage& s) {
  for (size_t i = 0; i < kNumSites; ++i) {
    const StoredSite stored = store_site(s, i);
    s.layouts[i].clip =
        search_activation_clip(s.backend.host, s.layouts[i], stored.x, stored.weight);
  }
}

}  // namespace

Result<QuantizedLayer> quantize_layer(LayerStage s, const SiteBlocks& int8_blocks) {
  const auto method = find_weight_method(s.options.weights);
  if (!method) return method.error();
  s.keep_inputs = (*method)->needs_hessian && SiteInputs::fit(s.config, s.set.num_tokens());
  StageTimes times;
  if (needs_calibration(s.options)) {
    if (const Status status = fold_and_measure(s); !status) return status.error();
    times.end("statistics");
  }
  lay_out(s, int8_blocks);
  if (s.options.search_activation_clip) search_clips(s);
  times.end("clips");
  Hessians hessians;
  if ((*method)->needs_hessian && !s.keep_inputs) {
    auto accumulated = accumulate_hessians(s);
    if (!accumulated) return accumulated.error();
    hessians = *std::move(accumulated);
    times.end("Hessians");
  }
  QuantizedLayer out;
  for (size_t i = 0; i < kNumSites; ++i) {
    if (s.keep_inputs) {
      hessians[i] = hessian_of_inputs(s, i);
      times.end("Hessian");
    }
    if (const Status status = quantize_site(s, i, hessians[i].get(), out); !status)
      return status.error();
    hessians[i].reset();
    times.end(s.layer.specs[i].name);
  }
  log_debug("layer {}: {}", s.layer.layer_idx, times.text());
  out.norms = std::move(s.layer.norms);
  return out;
}

}  // namespace comet::quant
