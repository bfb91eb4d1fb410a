#include "comet/study/spec/study_spec.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>

#include "comet/study/spec/spec_fields.h"
#include "comet/study/tasks/task.h"

namespace comet::study {
namespace {

constexpr std::array kFields{
    "models",        "formats",    "metrics",  "profiles", "machine",   "slo",
    "limit",         "seed",       "quantize", "data",     "prompts",   "similarity_tokens",
    "profile_scale", "num_tokens", "sync",     "async",    "max_rates", "accuracy_floor"};

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

Status read_models(const Json& object, const SpecContext& context, StudySpec& spec) {
  auto paths = string_list(object, "models", context);
  if (!paths) return paths.error();
  std::set<std::string> names;
  for (const std::string& path : *paths) {
    auto resolved = resolve_path(path, "models", context);
    if (!resolved) return resolved.error();
    if (!std::filesystem::exists(*resolved + "/config.json")) {
      return make_error(
          ErrorCode::kNotFound,
          "{}: models: {} is no model folder that can be read (it has no config.json)",
          context.source, *resolved);
    }
    std::string name = std::filesystem::path(*resolved).lexically_normal().filename().string();
    if (name.empty() || !names.insert(name).second) name = path;
    spec.models.push_back({name, *resolved});
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

using Flags = std::vector<std::pair<std::string, std::string>>;

/// Flags of `comet quantize`, spelt with '_' or '-'; a calibration text's path is resolved.
Result<Flags> read_flags(const Json& object, const std::string& field, const SpecContext& context) {
  Flags flags;
  for (const auto& [name, value] : object.items()) {
    if (name == "format" || name == "name" || name.starts_with("_")) continue;
    if (!value.is_string() && !value.is_number()) {
      return make_error(ErrorCode::kInvalidArgument, "{}: {}: '{}' is no text and no number",
                        context.source, field, name);
    }
    std::string spelt = name;
    std::ranges::replace(spelt, '_', '-');
    std::string text = flag_text(value);
    if (spelt == "calib") {
      auto path = resolve_path(text, field, context);
      if (!path) return path.error();
      text = *std::move(path);
    }
    flags.emplace_back(std::move(spelt), std::move(text));
  }
  return flags;
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
  auto flags = read_flags(json, field, context);
  if (!flags) return flags.error();
  format.flags = *std::move(flags);
  for (const auto& [flag, value] : format.flags) {
    if (format.format == "bf16" && flag != "kv") {
      return wrong(fmt::format("'{}': bf16 is the model as it is; it takes only kv", flag));
    }
  }
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
  Flags common_flags;
  if (const auto own = object.find("quantize"); own != object.end()) {
    auto flags = read_flags(*own, "quantize", context);
    if (!flags) return flags.error();
    common_flags = *std::move(flags);
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

Status read_bounds(const JsonObject& fields, std::string_view name, LoadBounds& bounds) {
  const Json* json = fields.find(name);
  if (json == nullptr) return {};
  const JsonObject inner(*json, fmt::format("{}: {}", fields.source(), name));
  const auto seconds = inner.number("duration_s", 0.1, 1e6);
  if (!seconds) return seconds.error();
  const auto requests = inner.integer("num_requests", 1, 1000000);
  if (!requests) return requests.error();
  bounds.duration_s = seconds->value_or(bounds.duration_s);
  bounds.num_requests = requests->value_or(bounds.num_requests);
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
        put("max_rates", 1, 100, spec.max_rates), read_bounds(fields, "sync", spec.sync),
        read_bounds(fields, "async", spec.async)}) {
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
  for (const StudyMetric& metric : spec.metrics) {
    const bool served = metric.kind == MetricKind::kSync || metric.kind == MetricKind::kAsync;
    if (served && spec.profiles.empty()) return needs(metric.name, "profiles");
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
                          read_machine, read_numbers, read_files}) {
    if (const Status status = read(*json, context, spec); !status) return status.error();
  }
  if (const Status checked = check_whole(spec, context); !checked) return checked.error();
  return spec;
}

}  // namespace comet::study
