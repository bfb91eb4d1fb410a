#include "comet/server/protocol/request/generation_params.h"

#include <algorithm>
#include <charconv>

namespace comet::server {
namespace {

/// Below this, division by the temperature overflows; vLLM draws the same line.
constexpr double kGreedyBelow = 1e-5;
constexpr double kMaxLogitBias = 100;

std::optional<int32_t> token_id_of(const Json& value, int64_t vocab_size) {
  const auto id = integer_of(value);
  if (!id || *id < 0 || *id >= vocab_size) return std::nullopt;
  return static_cast<int32_t>(*id);
}

void read_stop_entry(Fields& fields, const Json& entry, const RequestLimits& limits,
                     GenerationParams& params) {
  if (const auto id = token_id_of(entry, limits.vocab_size)) {
    params.stop_token_ids.push_back(*id);
    return;
  }
  if (!entry.is_string()) {
    return fields.fail("stop", fmt::format("strings, or token ids below {}", limits.vocab_size));
  }
  const auto& text = entry.get_ref<const std::string&>();
  if (text.empty() || static_cast<int64_t>(text.size()) > limits.max_stop_bytes) {
    return fields.fail(bad_field("stop", fmt::format("a stop string has {} bytes; expected 1 to {}",
                                                     text.size(), limits.max_stop_bytes)));
  }
  params.stop.push_back(text);
}

void read_stop(Fields& fields, const RequestLimits& limits, GenerationParams& params) {
  if (const Json* stop = fields.find("stop")) {
    if (!stop->is_array()) {
      read_stop_entry(fields, *stop, limits, params);
    } else {
      if (static_cast<int64_t>(stop->size()) > limits.max_stop) {
        return fields.fail("stop", fmt::format("at most {} entries", limits.max_stop));
      }
      for (const Json& entry : *stop) read_stop_entry(fields, entry, limits, params);
    }
  }
  if (const Json* ids = fields.find("stop_token_ids")) {
    if (!ids->is_array() || static_cast<int64_t>(ids->size()) > limits.max_stop) {
      return fields.fail("stop_token_ids",
                         fmt::format("a list of at most {} token ids", limits.max_stop));
    }
    std::vector<int32_t> list;
    if (auto error = read_token_ids(*ids, limits, fields.path_of("stop_token_ids"), list)) {
      return fields.fail(*std::move(error));
    }
    params.stop_token_ids.insert(params.stop_token_ids.end(), list.begin(), list.end());
  }
}

void read_logit_bias(Fields& fields, const RequestLimits& limits, GenerationParams& params) {
  const Json* biases = fields.find("logit_bias");
  if (biases == nullptr) return;
  if (!biases->is_object() || static_cast<int64_t>(biases->size()) > limits.max_logit_bias) {
    return fields.fail("logit_bias", fmt::format("an object of at most {} token ids and biases",
                                                 limits.max_logit_bias));
  }
  for (const auto& [key, value] : biases->items()) {
    int32_t id = -1;
    const auto parsed = std::from_chars(key.data(), key.data() + key.size(), id);
    if (parsed.ec != std::errc() || parsed.ptr != key.data() + key.size() || id < 0 ||
        id >= limits.vocab_size) {
      return fields.fail(bad_field(
          "logit_bias", fmt::format("logit_bias has the key {}; expected token ids from 0 to {}",
                                    value_text(Json(key)), limits.vocab_size - 1)));
    }
    if (!value.is_number() || !(std::abs(value.get<double>()) <= kMaxLogitBias)) {
      return fields.fail(bad_field(
          "logit_bias", fmt::format("logit_bias[{}] is {}; expected a number from -{} to {}", id,
                                    value_text(value), kMaxLogitBias, kMaxLogitBias)));
    }
    params.logit_bias.emplace_back(id, value.get<double>());
  }
}

void read_stream_options(Fields& fields, GenerationParams& params) {
  const Json* options = fields.find("stream_options");
  if (options == nullptr) return;
  if (!options->is_object()) return fields.fail("stream_options", "an object");
  if (!params.stream) {
    return fields.fail(bad_field("stream_options", "stream_options needs stream: true"));
  }
  const auto table = stream_option_fields();
  Fields inner(*options, table, fields.path_of("stream_options."));
  params.include_usage = inner.boolean("include_usage").value_or(false);
  params.continuous_usage = inner.boolean("continuous_usage_stats").value_or(false);
  (void)inner.boolean("include_obfuscation");
  if (!inner.ok()) fields.fail(*inner.error());
}

}  // namespace

std::optional<ApiError> read_token_ids(const Json& list, const RequestLimits& limits,
                                       const std::string& what, std::vector<int32_t>& ids) {
  ids.reserve(list.size());
  for (const Json& value : list) {
    const auto id = token_id_of(value, limits.vocab_size);
    if (!id) {
      return bad_field(what, fmt::format("{}[{}] is {}; expected a token id from 0 to {}", what,
                                         ids.size(), value_text(value), limits.vocab_size - 1));
    }
    ids.push_back(*id);
  }
  return std::nullopt;
}

void read_generation_params(Fields& fields, const RequestLimits& limits, GenerationParams& params) {
  params.model = fields.string("model").value_or("");
  params.max_tokens = fields.integer("max_tokens");
  params.min_tokens = fields.integer("min_tokens").value_or(0);
  params.n = fields.integer("n").value_or(1);
  params.temperature = fields.number("temperature");
  if (params.temperature && *params.temperature < kGreedyBelow) params.temperature = 0;
  params.top_p = fields.number("top_p");
  params.top_k = fields.integer("top_k");
  if (params.top_k) params.top_k = std::max<int64_t>(0, *params.top_k);
  params.min_p = fields.number("min_p");
  params.presence_penalty = fields.number("presence_penalty");
  params.frequency_penalty = fields.number("frequency_penalty");
  params.repetition_penalty = fields.number("repetition_penalty");
  params.seed = fields.integer("seed");
  params.ignore_eos = fields.boolean("ignore_eos").value_or(false);
  params.stream = fields.boolean("stream").value_or(false);
  (void)fields.string("user");
  (void)fields.integer("priority");
  read_stop(fields, limits, params);
  read_logit_bias(fields, limits, params);
  read_stream_options(fields, params);
}

void refuse_fields(Fields& fields, std::span<const RefusedField> refused) {
  for (const RefusedField& field : refused) {
    const Json* value = fields.find(field.name);
    if (value == nullptr) continue;
    if (!field.harmless.empty() && *value == Json::parse(field.harmless)) continue;
    fields.fail(bad_field(fields.path_of(field.name),
                          fmt::format("{} is not supported by this server; leave it out",
                                      fields.path_of(field.name))));
  }
}

}  // namespace comet::server
