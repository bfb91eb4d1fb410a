#include "comet/server/protocol/openapi/request_schemas.h"

#include <algorithm>

namespace comet::server {
namespace {

using Schema = OrderedJson;

Schema or_null(Schema schema) {
  schema["type"] = Schema::array({schema["type"], "null"});
  return schema;
}

Schema bound_json(FieldKind kind, double bound) {
  if (kind == FieldKind::kNumber) return bound;
  constexpr double kTop = 0x1p63;
  return bound >= kTop ? INT64_MAX : static_cast<int64_t>(bound);
}

Schema field_schema(const FieldSpec& spec) {
  switch (spec.kind) {
    case FieldKind::kBoolean:
      return or_null({{"type", "boolean"}, {"description", spec.help}});
    case FieldKind::kString:
      return or_null({{"type", "string"},
                      {"minLength", static_cast<int64_t>(spec.low)},
                      {"maxLength", static_cast<int64_t>(spec.high)},
                      {"description", spec.help}});
    default:
      return or_null({{"type", spec.kind == FieldKind::kInteger ? "integer" : "number"},
                      {"minimum", bound_json(spec.kind, spec.low)},
                      {"maximum", bound_json(spec.kind, spec.high)},
                      {"description", spec.help}});
  }
}

void add_fields(Schema& properties, std::span<const FieldSpec> table) {
  for (const FieldSpec& spec : table) properties[std::string(spec.name)] = field_schema(spec);
}

void add_refused(Schema& properties, std::span<const RefusedField> refused) {
  for (const RefusedField& field : refused) {
    Schema allowed = Schema::array({nullptr});
    if (!field.harmless.empty()) allowed.push_back(Schema::parse(field.harmless));
    properties[std::string(field.name)] = {{"enum", std::move(allowed)},
                                           {"description", "Not supported yet"}};
  }
}

Schema token_id(const RequestLimits& limits) {
  return {{"type", "integer"},
          {"minimum", 0},
          {"maximum", std::max<int64_t>(0, limits.vocab_size - 1)}};
}

Schema list_of(Schema items, int64_t low, int64_t high) {
  Schema schema = {{"type", "array"}, {"items", std::move(items)}, {"minItems", low}};
  if (high > 0) schema["maxItems"] = high;
  return schema;
}

/// stop, stop_token_ids, logit_bias, stream_options: not of the tables.
void add_generation(Schema& properties, const RequestLimits& limits) {
  add_fields(properties, generation_fields(limits));
  const Schema stop_text = {
      {"type", "string"}, {"minLength", 1}, {"maxLength", limits.max_stop_bytes}};
  const Schema stop_entry = {{"anyOf", {stop_text, token_id(limits)}}};
  properties["stop"] = {
      {"anyOf",
       {stop_text, token_id(limits), list_of(stop_entry, 0, limits.max_stop), {{"type", "null"}}}},
      {"description", "Texts or token ids that end the answer"}};
  properties["stop_token_ids"] = or_null(list_of(token_id(limits), 0, limits.max_stop));
  properties["logit_bias"] =
      or_null({{"type", "object"},
               {"maxProperties", limits.max_logit_bias},
               {"propertyNames", {{"pattern", "^[0-9]+$"}}},
               {"additionalProperties", {{"type", "number"}, {"minimum", -100}, {"maximum", 100}}},
               {"description", fmt::format("Token ids below {} and what is added to their logits",
                                           limits.vocab_size)}});
  Schema options = Schema::object();
  add_fields(options, stream_option_fields());
  properties["stream_options"] =
      or_null({{"type", "object"}, {"properties", options}, {"description", "Needs stream"}});
}

Schema messages_schema(const RequestLimits& limits) {
  const Schema part = {
      {"type", "object"},
      {"properties", {{"type", {{"const", "text"}}}, {"text", {{"type", "string"}}}}},
      {"required", {"type", "text"}}};
  const Schema content = {{"anyOf", {{{"type", "string"}}, list_of(part, 1, 0)}}};
  const Schema message = {
      {"type", "object"},
      {"properties",
       {{"role", {{"enum", {"system", "developer", "user", "assistant"}}}}, {"content", content}}},
      {"required", {"role", "content"}}};
  return list_of(message, 1, limits.max_messages);
}

Schema body_schema(Schema properties, Schema required) {
  Schema schema = {{"type", "object"}, {"properties", std::move(properties)}};
  if (!required.empty()) schema["required"] = std::move(required);
  return schema;
}

Schema completion_schema(const RequestLimits& limits) {
  Schema properties = Schema::object();
  const Schema text = {{"type", "string"}};
  const Schema ids = list_of(token_id(limits), 1, 0);
  properties["prompt"] = {
      {"anyOf",
       {text, list_of(text, 1, limits.max_prompts), ids, list_of(ids, 1, limits.max_prompts)}}};
  add_generation(properties, limits);
  add_fields(properties, completion_fields(limits));
  add_refused(properties, refused_completion_fields());
  return body_schema(std::move(properties), {"prompt"});
}

Schema chat_schema(const RequestLimits& limits) {
  Schema properties = Schema::object();
  properties["messages"] = messages_schema(limits);
  add_generation(properties, limits);
  add_fields(properties, chat_fields(limits));
  add_refused(properties, refused_chat_fields());
  return body_schema(std::move(properties), {"messages"});
}

Schema tokenize_schema(const RequestLimits& limits) {
  Schema properties = Schema::object();
  properties["prompt"] = {{"type", "string"}};
  properties["content"] = {{"type", "string"}, {"description", "llama.cpp's name of prompt"}};
  properties["messages"] = messages_schema(limits);
  add_fields(properties, tokenize_fields());
  Schema schema = body_schema(std::move(properties), Schema::array());
  schema["anyOf"] = {
      {{"required", {"prompt"}}}, {{"required", {"content"}}}, {{"required", {"messages"}}}};
  return schema;
}

}  // namespace

OrderedJson request_schemas(const RequestLimits& limits) {
  const Schema tokens = {{"tokens", list_of(token_id(limits), 0, 0)}};
  return {{"CompletionRequest", completion_schema(limits)},
          {"ChatRequest", chat_schema(limits)},
          {"TokenizeRequest", tokenize_schema(limits)},
          {"DetokenizeRequest", body_schema(tokens, {"tokens"})}};
}

}  // namespace comet::server
