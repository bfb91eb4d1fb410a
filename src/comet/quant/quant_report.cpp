#include "comet/quant/quant_report.h"

#include <algorithm>

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

Json optional_json(const std::optional<double>& value) { return value ? Json(*value) : Json(); }

std::optional<double> optional_from(const Json& value) {
  return value.is_null() ? std::nullopt : std::optional(value.get<double>());
}

/// As --smooth says it.
Json smoothing_json(const QuantizeOptions& options) {
  switch (options.smoothing) {
    case Smoothing::kOff:
      return "off";
    case Smoothing::kFixed:
      return options.smoothing_strength;
    case Smoothing::kSearch:
      return "auto";
  }
  return {};
}

/// As --weights-scale says it; only gptq has the choice.
std::string_view weights_scale(const QuantizeOptions& options) {
  const bool searched =
      options.weights == "clip" || (options.weights == "gptq" && options.search_scales);
  return searched ? "mse" : "absmax";
}

}  // namespace

double snr_db(const LinearReport& linear) {
  return linear.output_snr_db.value_or(linear.weight_snr_db);
}

double QuantReport::int4_activation_share() const {
  if (options.act_scale == formats::ActScale::kA16) return 0.0;
  return int4_share(linears, [](const LinearReport& l) { return static_cast<double>(l.rows); });
}

double QuantReport::int4_block_share() const {
  if (options.act_scale == formats::ActScale::kA16) return 0.0;
  return int4_share(linears, [](const LinearReport&) { return 1.0; });
}

Json linear_json(const LinearReport& linear) {
  return {{"name", linear.name},
          {"format", "w4ax"},
          {"rows", linear.rows},
          {"int8_blocks", linear.int8_blocks},
          {"blocks", linear.blocks},
          {"clip", linear.clip},
          {"equalized_channels", linear.num_equalized},
          {"smooth", optional_json(linear.smoothing)},
          {"weight_mse", linear.weight_mse},
          {"weight_snr_db", linear.weight_snr_db},
          {"output_snr_db", optional_json(linear.output_snr_db)}};
}

LinearReport linear_from_json(const Json& row) {
  LinearReport linear;
  linear.name = row.at("name").get<std::string>();
  linear.rows = row.at("rows").get<int64_t>();
  linear.int8_blocks = row.at("int8_blocks").get<int64_t>();
  linear.blocks = row.at("blocks").get<int64_t>();
  linear.clip = row.at("clip").get<float>();
  linear.num_equalized = row.at("equalized_channels").get<int64_t>();
  linear.weight_mse = row.at("weight_mse").get<double>();
  linear.weight_snr_db = row.at("weight_snr_db").get<double>();
  linear.output_snr_db = optional_from(row.at("output_snr_db"));
  linear.smoothing = optional_from(row.at("smooth"));
  return linear;
}

Json options_json(const QuantizeOptions& options) {
  return {{"format", options.format},
          {"recipe", options.recipe},
          {"kv", options.kv},
          {"lm_head", options.int8_lm_head ? "int8" : "bf16"},
          {"act_scale", formats::act_scale_name(options.act_scale)},
          {"w4", formats::granularity_name(options.granularity)},
          {"weights", options.weights},
          {"weights_scale", weights_scale(options)},
          {"group_scale_type", dtype_name(options.scale_type)},
          {"damp", options.damp},
          {"int8_share", options.int8_share ? Json(*options.int8_share) : Json()},
          {"int8_blocks", options.int8_share ? Json() : Json(options.int8_blocks)},
          {"int8_rule", block_rule_name(options.int8_rule)},
          {"equalize", options.equalize},
          {"smooth", smoothing_json(options)},
          {"sort_channels", options.sort_channels},
          {"search_activation_clip", options.search_activation_clip},
          {"kv_smooth", options.smooth_keys},
          {"kv_rotate", options.kv_options.rotate},
          {"kv_rotate_values", options.rotate_values},
          {"kv_window", {options.kv_options.window_first, options.kv_options.window_recent}}};
}

Json report_json(const QuantReport& report) {
  Json layers = Json::array();
  for (const LinearReport& linear : report.linears) {
    layers.push_back(linear_json(linear));
    layers.back()["format"] = report.options.format;
  }
  Json json = options_json(report.options);
  json["int4_activation_share"] = report.int4_activation_share();
  json["int4_block_share"] = report.int4_block_share();
  json["calibration"] = {{"samples", report.num_calibration_samples},
                         {"tokens", report.num_calibration_tokens}};
  json["size_bytes"] = report.size_bytes;
  json["layers"] = layers;
  json["perplexity"] = {{"before", nullptr}, {"after", nullptr}};
  json["kl_mean"] = nullptr;
  json["gate_tokens"] = 0;
  if (report.gate) {
    json["perplexity"] = {{"before", report.gate->perplexity_before},
                          {"after", report.gate->perplexity_after}};
    json["kl_mean"] = report.gate->kl_mean;
    json["gate_tokens"] = report.gate->num_tokens;
  }
  return json;
}

std::string gate_warning(const QuantReport& report) {
  constexpr double kMostPerplexity = 1.10;  // times the original's
  constexpr double kMostKl = 0.1;
  constexpr size_t kNumNamed = 3;
  if (!report.gate) return {};
  const double ratio = report.gate->perplexity_after / report.gate->perplexity_before;
  if (ratio <= kMostPerplexity && report.gate->kl_mean <= kMostKl) return {};
  std::vector<LinearReport> worst(std::min(kNumNamed, report.linears.size()));
  std::partial_sort_copy(
      report.linears.begin(), report.linears.end(), worst.begin(), worst.end(),
      [](const LinearReport& a, const LinearReport& b) { return snr_db(a) < snr_db(b); });
  std::vector<std::string> names;
  for (const LinearReport& linear : worst) {
    names.push_back(fmt::format("{} ({:.1f} dB)", linear.name, snr_db(linear)));
  }
  return fmt::format(
      "quality gate: perplexity {:.2f}x, KL {:.3f} against the original (more than {:.2f}x or {}); "
      "worst linears: {}",
      ratio, report.gate->kl_mean, kMostPerplexity, kMostKl, fmt::join(names, ", "));
}

}  // namespace comet::quant
