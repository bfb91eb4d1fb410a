#include "comet/quant/layer/layer_quantizer.h"

#include <algorithm>
#include <cmath>

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

/// Mean square of every stored channel of quantized rows.
std::vector<float> channel_importance(const Matrix& rows) {
  std::vector<double> squares(rows.cols, 0.0);
  for (int64_t t = 0; t < rows.rows; ++t) {
    for (int64_t c = 0; c < rows.cols; ++c) {
      squares[c] += static_cast<double>(rows.row(t)[c]) * rows.row(t)[c];
    }
  }
  std::vector<float> importance(rows.cols);
  for (int64_t c = 0; c < rows.cols && rows.rows > 0; ++c) {
    importance[c] = static_cast<float>(squares[c] / static_cast<double>(rows.rows));
  }
  return importance;
}

/// Rows side by side, their sums in order: the same for any number of threads.
template <typename RowSum>
double sum_over_rows(ThreadPool& pool, int64_t num_rows, RowSum row_sum) {
  std::vector<double> sums(num_rows);
  pool.parallel_for(num_rows, [&](int64_t i, int) { sums[i] = row_sum(i); });
  double total = 0.0;
  for (const double sum : sums) total += sum;
  return total;
}

double sum_of_squares(ThreadPool& pool, const Matrix& a) {
  return sum_over_rows(pool, a.rows, [&](int64_t i) {
    double total = 0.0;
    for (int64_t c = 0; c < a.cols; ++c) total += static_cast<double>(a.row(i)[c]) * a.row(i)[c];
    return total;
  });
}

double sum_of_squared_differences(ThreadPool& pool, const Matrix& a, const Matrix& b) {
  return sum_over_rows(pool, a.rows, [&](int64_t i) {
    double total = 0.0;
    for (int64_t c = 0; c < a.cols; ++c) {
      const double d = static_cast<double>(a.row(i)[c]) - b.row(i)[c];
      total += d * d;
    }
    return total;
  });
}

/// Signal against error; the cap stands for "no error".
double decibels(double signal, double noise) {
  constexpr double kMaxDb = 200.0;
  if (noise <= signal * 1e-20) return kMaxDb;
  return std::clamp(10.0 * std::log10(signal / noise), -kMaxDb, kMaxDb);
}

/// Of the linear's output.
double output_snr_db(Backend& backend, const Matrix& x, const Matrix& weight,
                     const Matrix& quantized_x, const Matrix& decoded) {
  const Matrix want = backend.product(x, weight);
  const Matrix got = backend.product(quantized_x, decoded);
  ThreadPool& pool = backend.host.pool;
  return decibels(sum_of_squares(pool, want), sum_of_squared_differences(pool, want, got));
}

/// The 8-bit formats hold a site's channels as they are.
void drop_padding(formats::QuantizedWeight& weight, const WeightGrid& grid) {
  weight.code_type =
      grid.codes == WeightCodes::kE4M3 ? formats::CodeType::kE4M3 : formats::CodeType::kInt;
  weight.channel_scale_type = grid.scale_type;
  formats::SiteLayout& site = weight.site;
  if (site.k == site.k_padded) return;
  for (int64_t n = 0; n < grid.num_rows; ++n) {
    std::copy_n(weight.codes.begin() + n * site.k_padded, site.k,
                weight.codes.begin() + n * site.k);
  }
  weight.codes.resize(grid.num_rows * site.k);
  site.k_padded = site.k;
  site.perm.clear();
}

formats::QuantizedWeight to_quantized_weight(const LayerStage& s, size_t i, CodedWeight coded) {
  formats::QuantizedWeight weight;
  const formats::LinearSpec& spec = s.layer.specs[i];
  weight.name = spec.name;
  weight.parts = spec.parts;
  weight.part_rows = spec.part_rows;
  weight.site = s.layouts[i];
  weight.granularity = coded.grid.granularity;
  weight.codes = std::move(coded.codes);
  weight.channel_scale = std::move(coded.grid.channel_scale);
  if (coded.grid.codes != WeightCodes::kS4) drop_padding(weight, coded.grid);
  weight.group_scale = std::move(coded.grid.group_scale);
  weight.scale_type = coded.grid.scale_type;
  weight.group_multiplier = std::move(coded.grid.group_multiplier);
  weight.group_offset = std::move(coded.grid.group_offset);
  weight.bias = s.layer.biases[i];
  return weight;
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
  const bool measured = stored.x.rows > 0 && s.options.codes != WeightCodes::kE4M3;
  const Matrix quantized_x = measured ? quantized_rows(s.backend.host.pool, s.layouts[i], stored.x)
                                      : Matrix(0, stored.x.cols);
  const std::vector<float> importance = channel_importance(quantized_x);
  const auto method = find_weight_method(s.options.weights);
  if (!method) return method.error();
  const WeightProblem problem{s.layer.specs[i].name,
                              stored.weight,
                              s.options.granularity,
                              importance,
                              hessian,
                              s.options.damp,
                              s.options.scale_type,
                              s.options.codes,
                              s.options.search_scales};
  auto coded = (*method)->quantize(s.backend.host, problem);
  if (!coded) return coded.error();
  const Matrix decoded = decoded_weight(s.backend.host.pool, *coded);
  LinearReport& report = out.reports[i];
  report.name = s.layer.specs[i].name;
  report.rows = stored.weight.rows;
  report.blocks = s.layouts[i].num_blocks();
  report.int8_blocks = s.layouts[i].int8_blocks;
  report.num_equalized = s.num_equalized[i];
  report.clip = s.layouts[i].clip;
  report.smoothing = s.smoothing[i];
  const double weight_error =
      sum_of_squared_differences(s.backend.host.pool, stored.weight, decoded);
  report.weight_mse = weight_error / static_cast<double>(stored.weight.rows * s.layouts[i].k);
  report.weight_snr_db = decibels(sum_of_squares(s.backend.host.pool, stored.weight), weight_error);
  if (measured) {
    report.output_snr_db = output_snr_db(s.backend, stored.x, stored.weight, quantized_x, decoded);
  }
  out.linears[i] = to_quantized_weight(s, i, *std::move(coded));
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
