#include "comet/study/spec/study_spec.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>

#include "comet/models/synthetic.h"
#include "comet/study/spec/spec_fields.h"
#include "comet/study/tasks/task.h"

namespace comet::study {
namespace {

constexpr std::array kFields{
    "models",        "formats",    "metrics",  "profiles", "machine",   "slo",
    "limit",         "seed",       "quantize", "data",     "prompts",   "similarity_tokens",
    "profile_scale", "num_tokens", "sync",     "async",    "max_rates", "accuracy_floor",
    "serve"};

Status check_names(const Json& object, const SpecContext& context, StudySpec&) {
  for (const auto& [name, value] : object.items()) {
    if (name.starts_with("_") || name == "comment") continue;
    if (std::ranges::find(kFields, name) != kFields.end()) continue;
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: field '{}' is not known; there are {} (and names that begin with _ for "
                      "remarks)",
                      context.source, name, fmt::format("{}", fmt::join(kFields, ", ")));
  }
  return {};
}

Result<StudyModel> read_folder(const std::string& path, const SpecContext& context) {
  auto resolved = resolve_path(path, "models", context);
  if (!resolved) return resolved.error();
  if (!std::filesystem::exists(*resolved + "/config.json")) {
    return make_error(ErrorCode::kNotFound,
                      "{}: models: {} is no model folder that can be read (it has no config.json)",
                      context.source, *resolved);
  }
  StudyModel model;
  model.name = std::filesystem::path(*resolved).lexically_normal().filename().string();
  model.directory = *std::move(resolved);
  return model;
}

/// {"synthetic": SHAPE, "tokenizer": FOLDER}: a shape's speed without its weights.
Result<StudyModel> read_synthetic(const Json& json, const SpecContext& context) {
  const JsonObject fields(json, context.source + ": models");
  const auto shape = fields.string("synthetic");
  if (!shape) return shape.error();
  const auto tokenizer = fields.string("tokenizer");
  if (!tokenizer) return tokenizer.error();
  if (!*shape || !*tokenizer) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: models: expected a folder, or {{\"synthetic\": \"llama3-8b\", "
                      "\"tokenizer\": FOLDER}}; tools/gpu/fill_vocabulary.py makes such a folder",
                      context.source);
  }
  if (const auto known = models::synthetic_config(**shape); !known) {
    return make_error(ErrorCode::kInvalidArgument, "{}: models: {}", context.source,
                      known.error().message);
  }
  auto folder = resolve_path(**tokenizer, "models", context);
  if (!folder) return folder.error();
  if (!std::filesystem::exists(*folder + "/tokenizer.json")) {
    return make_error(ErrorCode::kNotFound, "{}: models: {} has no tokenizer.json", context.source,
                      *folder);
  }
  return StudyModel{**shape, "", **shape, *std::move(folder)};
}

Status read_models(const Json& object, const SpecContext& context, StudySpec& spec) {
  const auto it = object.find("models");
  if (it == object.end() || !it->is_array() || it->empty()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: field 'models': expected a list of folders, at least one",
                      context.source);
  }
  std::set<std::string> names;
  for (const Json& json : *it) {
    const bool is_path = json.is_string() && !json.get_ref<const std::string&>().empty();
    auto model =
        is_path ? read_folder(json.get<std::string>(), context) : read_synthetic(json, context);
    if (!model) return model.error();
    if (model->name.empty() || !names.insert(model->name).second) {
      model->name = is_path ? json.get<std::string>() : json.dump();
    }
    spec.models.push_back(*std::move(model));
  }
  return {};
}

std::string flag_text(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

/// "w4ax", "w4ax(fmpq)", "w4ax(recipe=fmpq, kv=kv8)".
std::string default_name(const StudyFormat& format) {
  if (format.flags.empty()) return format.format;
  if (format.flags.size() == 1 && format.flags.front().first == "recipe") {
    return fmt::format("{}({})", format.format, format.flags.front().second);
  }
  std::string text;
  for (const auto& [flag, value] : format.flags) {
    text += fmt::format("{}{}={}", text.empty() ? "" : ", ", flag, value);
  }
  return fmt::format("{}({})", format.format, text);
}

Result<StudyFormat> read_format(const Json& json, const std::string& field,
                                const SpecContext& context) {
  const auto wrong = [&](const std::string& what) {
    return make_error(ErrorCode::kInvalidArgument, "{}: {}: {}", context.source, field, what);
  };
  if (!json.is_object() || !json.contains("format") || !json.at("format").is_string()) {
    return wrong("expected an object such as {\"format\": \"w4a16\"}");
  }
  StudyFormat format;
  format.format = json.at("format").get<std::string>();
  constexpr std::array kFormats{"bf16", "w8a8-fp8", "w8a8-int", "w4a16", "w4ax"};
  if (std::ranges::find(kFormats, format.format) == kFormats.end()) {
    return wrong(fmt::format("format '{}' is not known; there are {}", format.format,
                             fmt::join(kFormats, ", ")));
  }
  auto flags = read_flags(json, field, {"format", "name", "rate_factor"}, context);
  if (!flags) return flags.error();
  format.flags = *std::move(flags);
  for (const auto& [flag, value] : format.flags) {
    if (format.format == "bf16" && flag != "kv") {
      return wrong(fmt::format("'{}': bf16 is the model as it is; it takes only kv", flag));
    }
  }
  const auto factor =
      JsonObject(json, context.source + ": " + field).number("rate_factor", 0.01, 100);
  if (!factor) return factor.error();
  format.rate_factor = factor->value_or(1);
  format.name = json.contains("name") ? flag_text(json.at("name")) : default_name(format);
  return format;
}

Status read_formats(const Json& object, const SpecContext& context, StudySpec& spec) {
  const auto it = object.find("formats");
  if (it == object.end() || !it->is_array() || it->empty()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: field 'formats': expected a list such as [{{\"format\": \"bf16\"}}]",
                      context.source);
  }
  StudyFlags common_flags;
  for (const auto& [name, out] :
       {std::pair{"quantize", &common_flags}, {"serve", &spec.serve_flags}}) {
    const auto own = object.find(name);
    if (own == object.end()) continue;
    auto flags = read_flags(*own, name, {}, context);
    if (!flags) return flags.error();
    *out = *std::move(flags);
  }
  std::set<std::string> names;
  for (size_t i = 0; i < it->size(); ++i) {
    auto format = read_format((*it)[i], fmt::format("formats[{}]", i), context);
    if (!format) return format.error();
    for (const auto& flag : common_flags) {
      const bool own = std::ranges::any_of(
          format->flags, [&](const auto& other) { return other.first == flag.first; });
      if (!own && format->format != "bf16") format->common_flags.push_back(flag);
    }
    if (!names.insert(format->name).second) {
      return make_error(ErrorCode::kInvalidArgument,
                        "{}: formats[{}]: '{}' stands there twice; give each a \"name\" of its own",
                        context.source, i, format->name);
    }
    spec.formats.push_back(*std::move(format));
  }
  return {};
}

Result<StudyMetric> read_metric(const std::string& name, const SpecContext& context) {
  if (name == "size") return StudyMetric{name, MetricKind::kSize, ""};
  if (name == "similarity") return StudyMetric{name, MetricKind::kSimilarity, ""};
  if (name == "sync") return StudyMetric{name, MetricKind::kSync, ""};
  if (name == "async") return StudyMetric{name, MetricKind::kAsync, ""};
  if (name == "wikitext" || name == "wikitext2") {
    return StudyMetric{name, MetricKind::kText, "wikitext2"};
  }
  if (name.starts_with("text:")) {
    auto path = resolve_path(name.substr(5), "metrics", context);
    if (!path) return path.error();
    if (!std::filesystem::is_regular_file(*path)) {
      return make_error(ErrorCode::kNotFound, "{}: metrics: '{}': {} is no file that can be read",
                        context.source, name, *path);
    }
    return StudyMetric{name, MetricKind::kText, "text:" + *path};
  }
  if (const Task* task = find_task(name); task != nullptr) {
    return StudyMetric{name, MetricKind::kTask, std::string(task->name)};
  }
  return make_error(ErrorCode::kInvalidArgument,
                    "{}: metrics: '{}' is not known; there are size, text:PATH, wikitext2, "
                    "similarity, sync, async and the tasks {}",
                    context.source, name, task_names());
}

Status read_metrics(const Json& object, const SpecContext& context, StudySpec& spec) {
  auto names = string_list(object, "metrics", context);
  if (!names) return names.error();
  std::set<std::string> seen;
  for (const std::string& name : *names) {
    auto metric = read_metric(name, context);
    if (!metric) return metric.error();
    if (!seen.insert(name).second) {
      return make_error(ErrorCode::kInvalidArgument, "{}: metrics: '{}' stands there twice",
                        context.source, name);
    }
    spec.metrics.push_back(*std::move(metric));
  }
  return {};
}

Status read_profiles(const Json& object, const SpecContext& context, StudySpec& spec) {
  const JsonObject fields(object, context.source);
  const auto scale = fields.number("profile_scale", 0.001, 1);
  if (!scale) return scale.error();
  spec.profile_scale = scale->value_or(1);
  if (!fields.has("profiles")) return {};
  auto names = string_list(object, "profiles", context);
  if (!names) return names.error();
  for (const std::string& name : *names) {
    const auto profile = client::find_profile(name);
    if (!profile) {
      return make_error(ErrorCode::kInvalidArgument, "{}: profiles: {}", context.source,
                        profile.error().message);
    }
    spec.profiles.push_back(client::scaled(*profile, spec.profile_scale));
  }
  return {};
}

Status read_machine(const Json& object, const SpecContext& context, StudySpec& spec) {
  const JsonObject fields(object, context.source);
  if (const Json* machine = fields.find("machine"); machine != nullptr) {
    const JsonObject inner(*machine, context.source + ": machine");
    const auto name = inner.string("name");
    if (!name) return name.error();
    spec.machine_name = name->value_or("");
    const auto price = inner.number("price_per_hour", -1e300, 1e9);
    if (!price) return price.error();
    if (*price && !(**price > 0)) {
      return make_error(ErrorCode::kInvalidArgument,
                        "{}: machine.price_per_hour is {}; expected a price above 0",
                        context.source, **price);
    }
    spec.price_per_hour = price->value_or(0);
  }
  if (const Json* slo = fields.find("slo"); slo != nullptr) {
    const JsonObject inner(*slo, context.source + ": slo");
    const auto ttft = inner.number("ttft_p99_ms", 1e-3, 1e9);
    if (!ttft) return ttft.error();
    const auto itl = inner.number("itl_p99_ms", 1e-3, 1e9);
    if (!itl) return itl.error();
    spec.slo = {ttft->value_or(0), itl->value_or(0)};
  }
  return {};
}

Status read_numbers(const Json& object, const SpecContext& context, StudySpec& spec) {
  const JsonObject fields(object, context.source);
  const auto put = [&](std::string_view name, int64_t low, int64_t high, auto& out) -> Status {
    const auto value = fields.integer(name, low, high);
    if (!value) return value.error();
    if (*value) out = static_cast<std::remove_reference_t<decltype(out)>>(**value);
    return {};
  };
  constexpr int64_t kMany = int64_t{1} << 40;
  for (const Status& status :
       {put("limit", 0, kMany, spec.limit), put("num_tokens", 0, kMany, spec.num_tokens),
        put("seed", 0, INT64_MAX, spec.seed),
        put("similarity_tokens", 1, 1 << 20, spec.similarity_tokens),
        put("max_rates", 1, 100, spec.max_rates)}) {
    if (!status) return status.error();
  }
  const auto floor = fields.number("accuracy_floor", 0, 1);
  if (!floor) return floor.error();
  spec.accuracy_floor = floor->value_or(spec.accuracy_floor);
  return {};
}

Status read_files(const Json& object, const SpecContext& context, StudySpec& spec) {
  const JsonObject fields(object, context.source);
  for (const auto& [name, out] : {std::pair{"data", &spec.data}, {"prompts", &spec.prompts}}) {
    const auto path = fields.string(name);
    if (!path) return path.error();
    if (!*path) continue;
    auto resolved = resolve_path(**path, name, context);
    if (!resolved) return resolved.error();
    if (!std::filesystem::exists(*resolved)) {
      return make_error(ErrorCode::kNotFound, "{}: {}: {} does not exist", context.source, name,
                        *resolved);
    }
    *out = *std::move(resolved);
  }
  return {};
}

/// What one field asks of another.
Status check_whole(const StudySpec& spec, const SpecContext& context) {
  const auto needs = [&](std::string_view metric, std::string_view field) {
    return make_error(ErrorCode::kInvalidArgument, "{}: metric '{}' needs the field '{}'",
                      context.source, metric, field);
  };
  const auto synthetic = std::ranges::find_if(spec.models, &StudyModel::is_synthetic);
  for (const StudyMetric& metric : spec.metrics) {
    const bool served = metric.kind == MetricKind::kSync || metric.kind == MetricKind::kAsync;
    if (served && spec.profiles.empty()) return needs(metric.name, "profiles");
    if (!served && synthetic != spec.models.end()) {
      return make_error(
          ErrorCode::kInvalidArgument,
          "{}: metric '{}': the synthetic model '{}' has no folder and no quality; it "
          "has sync and async",
          context.source, metric.name, synthetic->name);
    }
    if (metric.kind == MetricKind::kSimilarity && spec.prompts.empty()) {
      return needs(metric.name, "prompts");
    }
    if ((metric.kind == MetricKind::kTask || metric.task == "wikitext2") && spec.data.empty()) {
      return needs(metric.name, "data");
    }
  }
  return {};
}

}  // namespace

bool StudySpec::measures_quality() const {
  return has(MetricKind::kText) || has(MetricKind::kTask) || has(MetricKind::kSimilarity);
}

bool StudySpec::has(MetricKind kind) const {
  return std::ranges::any_of(metrics, [&](const StudyMetric& m) { return m.kind == kind; });
}

Result<StudySpec> parse_study_spec(const std::string& text, const SpecContext& context) {
  const auto json = parse_json(text, context.source);
  if (!json) return json.error();
  if (!json->is_object()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: expected a JSON object; `comet study --template` prints one",
                      context.source);
  }
  StudySpec spec;
  spec.json = OrderedJson::parse(text);
  for (const auto read : {check_names, read_models, read_formats, read_metrics, read_profiles,
                          read_machine, read_numbers, read_load, read_files}) {
    if (const Status status = read(*json, context, spec); !status) return status.error();
  }
  if (const Status checked = check_whole(spec, context); !checked) return checked.error();
  return spec;
}

}  // namespace comet::study
