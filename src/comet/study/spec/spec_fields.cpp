#include "comet/study/spec/spec_fields.h"

#include <algorithm>
#include <filesystem>

namespace comet::study {

Result<std::vector<std::string>> string_list(const Json& object, const std::string& field,
                                             const SpecContext& context) {
  const auto wrong = [&] {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: field '{}': expected a list of texts, at least one", context.source,
                      field);
  };
  const auto it = object.find(field);
  if (it == object.end() || !it->is_array() || it->empty()) return wrong();
  std::vector<std::string> texts;
  for (const Json& text : *it) {
    if (!text.is_string() || text.get_ref<const std::string&>().empty()) return wrong();
    texts.push_back(text.get<std::string>());
  }
  return texts;
}

Result<std::string> resolve_path(const std::string& path, const std::string& field,
                                 const SpecContext& context) {
  std::string out;
  for (size_t i = 0; i < path.size(); ++i) {
    if (path.compare(i, 2, "${") != 0) {
      out += path[i];
      continue;
    }
    const size_t end = path.find('}', i);
    if (end == std::string::npos) {
      return make_error(ErrorCode::kInvalidArgument, "{}: {}: '{}': '${{' has no '}}'",
                        context.source, field, path);
    }
    const std::string name = path.substr(i + 2, end - i - 2);
    const char* value = context.environment(name);
    if (value == nullptr) {
      return make_error(ErrorCode::kInvalidArgument,
                        "{}: {}: '{}': the environment variable {} is not set", context.source,
                        field, path, name);
    }
    out += value;
    i = end;
  }
  const std::filesystem::path whole = std::filesystem::path(context.directory) / out;
  return whole.lexically_normal().string();
}

Result<StudyFlags> read_flags(const Json& object, const std::string& field,
                              std::initializer_list<std::string_view> own,
                              const SpecContext& context) {
  StudyFlags flags;
  if (!object.is_object()) {
    return make_error(ErrorCode::kInvalidArgument, "{}: {}: expected an object of flags",
                      context.source, field);
  }
  for (const auto& [name, value] : object.items()) {
    if (name.starts_with("_") || std::ranges::find(own, name) != own.end()) continue;
    if (!value.is_string() && !value.is_number()) {
      return make_error(ErrorCode::kInvalidArgument, "{}: {}: '{}' is no text and no number",
                        context.source, field, name);
    }
    std::string spelt = name;
    std::ranges::replace(spelt, '_', '-');
    std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    if (spelt == "calib") {
      auto path = resolve_path(text, field, context);
      if (!path) return path.error();
      text = *std::move(path);
    }
    flags.emplace_back(std::move(spelt), std::move(text));
  }
  return flags;
}

namespace {

Status read_bounds(const JsonObject& fields, LoadBounds& bounds) {
  const auto seconds = fields.number("duration_s", 0.1, 1e6);
  if (!seconds) return seconds.error();
  const auto requests = fields.integer("num_requests", 1, 1000000);
  if (!requests) return requests.error();
  const auto warmup = fields.integer("warmup_tokens", 0, 1 << 20);
  if (!warmup) return warmup.error();
  bounds.duration_s = seconds->value_or(bounds.duration_s);
  bounds.num_requests = requests->value_or(bounds.num_requests);
  bounds.warmup_tokens = warmup->value_or(bounds.warmup_tokens);
  return {};
}

/// A number for all profiles, or an object of profiles.
Status read_first_rate(const JsonObject& fields, AsyncLoad& load) {
  constexpr double kLeast = 1e-6;
  constexpr double kMost = 1e6;
  const Json* json = fields.find("first_rate");
  if (json == nullptr) return {};
  if (!json->is_object()) {
    const auto rate = fields.number("first_rate", kLeast, kMost);
    if (!rate) return rate.error();
    load.first_rate_per_s = rate->value_or(0);
    return {};
  }
  const JsonObject rates(*json, fields.source() + ": first_rate");
  for (const auto& [name, value] : json->items()) {
    const auto profile = client::find_profile(name);
    if (!profile) {
      return make_error(ErrorCode::kInvalidArgument, "{}: {}", rates.source(),
                        profile.error().message);
    }
    const auto rate = rates.number(name, kLeast, kMost);
    if (!rate) return rate.error();
    load.first_rates[profile->name] = rate->value_or(0);
  }
  return {};
}

}  // namespace

double AsyncLoad::first_rate(const std::string& profile) const {
  const auto it = first_rates.find(profile);
  return it == first_rates.end() ? first_rate_per_s : it->second;
}

Status read_load(const Json& object, const SpecContext& context, StudySpec& spec) {
  const JsonObject fields(object, context.source);
  if (const Json* sync = fields.find("sync"); sync != nullptr) {
    const JsonObject inner(*sync, context.source + ": sync");
    if (const Status read = read_bounds(inner, spec.sync); !read) return read;
  }
  const Json* async = fields.find("async");
  if (async == nullptr) return {};
  const JsonObject inner(*async, context.source + ": async");
  if (const Status read = read_bounds(inner, spec.async); !read) return read;
  if (const Status read = read_first_rate(inner, spec.async); !read) return read;
  const auto window = inner.number("window_s", 0.1, 1e6);
  if (!window) return window.error();
  const auto step = inner.number("rate_step", 1.01, 100);
  if (!step) return step.error();
  const auto in_flight = inner.integer("max_in_flight", 1, 1 << 20);
  if (!in_flight) return in_flight.error();
  spec.async.window_s = window->value_or(spec.async.window_s);
  spec.async.rate_step = step->value_or(spec.async.rate_step);
  spec.async.max_in_flight = in_flight->value_or(spec.async.max_in_flight);
  return {};
}

}  // namespace comet::study
