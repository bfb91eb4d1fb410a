#include "comet/quant/quant_report.h"

namespace comet::quant {
namespace {

/// Share of INT4 blocks, each weighted by `weight(linear)`.
template <typename Weight>
double int4_share(const std::vector<LinearReport>& linears, Weight weight) {
  double int4 = 0.0;
  double all = 0.0;
  for (const LinearReport& linear : linears) {
    int4 += weight(linear) * static_cast<double>(linear.blocks - linear.int8_blocks);
    all += weight(linear) * static_cast<double>(linear.blocks);
  }
  return all > 0.0 ? int4 / all : 0.0;
}

Json or_null(const std::optional<double>& value) { return value ? Json(*value) : Json(); }

}  // namespace

double QuantReport::int4_activation_share() const {
  return int4_share(linears, [](const LinearReport& l) { return static_cast<double>(l.rows); });
}

double QuantReport::int4_block_share() const {
  return int4_share(linears, [](const LinearReport&) { return 1.0; });
}

Json report_json(const QuantReport& report) {
  Json layers = Json::array();
  for (const LinearReport& linear : report.linears) {
    layers.push_back({{"name", linear.name},
                      {"format", "w4ax"},
                      {"int8_blocks", linear.int8_blocks},
                      {"blocks", linear.blocks},
                      {"clip", linear.clip},
                      {"equalized_channels", linear.num_equalized},
                      {"weight_mse", linear.weight_mse},
                      {"output_snr_db", linear.output_snr_db}});
  }
  const QuantizeOptions& options = report.options;
  return {
      {"format", "w4ax"},
      {"recipe", options.recipe},
      {"kv", options.kv},
      {"lm_head", options.int8_lm_head ? "int8" : "bf16"},
      {"int4_activation_share", report.int4_activation_share()},
      {"int4_block_share", report.int4_block_share()},
      {"act_scale", formats::act_scale_name(options.act_scale)},
      {"w4", formats::granularity_name(options.granularity)},
      {"weights", options.weights},
      {"equalize", options.equalize},
      {"kv_smooth", options.smooth_keys},
      {"kv_rotate", options.kv_options.rotate},
      {"kv_rotate_values", options.rotate_values},
      {"kv_window", {options.kv_options.window_first, options.kv_options.window_recent}},
      {"calibration",
       {{"samples", report.num_calibration_samples}, {"tokens", report.num_calibration_tokens}}},
      {"size_bytes", report.size_bytes},
      {"layers", layers},
      {"perplexity",
       {{"before", or_null(report.perplexity_before)},
        {"after", or_null(report.perplexity_after)}}}};
}

}  // namespace comet::quant
