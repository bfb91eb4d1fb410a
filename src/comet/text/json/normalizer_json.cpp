#include <algorithm>

#include "comet/text/json/stages.h"
#include "comet/text/unicode/printable.h"

namespace comet::text {
namespace {

constexpr size_t kMaxGrowth = 8;  // of all Replace steps in a row
constexpr size_t kMaxPrependBytes = 256;

Status read_step(const JsonPlace& place, size_t& growth, std::vector<NormalizerStep>& steps);

Status read_steps(const JsonPlace& sequence, size_t& growth, std::vector<NormalizerStep>& steps) {
  const Result<std::vector<JsonPlace>> list = read_stage_list(sequence, "normalizers");
  if (!list.ok()) return list.error();
  for (const JsonPlace& place : *list) {
    if (Status status = read_step(place, growth, steps); !status.ok()) return status;
  }
  return {};
}

Status read_prepend(const JsonPlace& place, std::vector<NormalizerStep>& steps) {
  Result<std::string> prefix = place.require_string("prepend");
  if (!prefix.ok()) return prefix.error();
  if (prefix->size() > kMaxPrependBytes) {
    return make_error(ErrorCode::kUnsupported, "{}: field 'prepend' has {} bytes, more than {}",
                      place.where, prefix->size(), kMaxPrependBytes);
  }
  steps.emplace_back(PrependStep{*std::move(prefix)});
  return {};
}

Status read_step(const JsonPlace& place, size_t& growth, std::vector<NormalizerStep>& steps) {
  const Result<std::string> type = place.require_string("type");
  if (!type.ok()) return type.error();
  if (steps.size() >= kMaxStages) {
    return make_error(ErrorCode::kUnsupported, "{}: more than {} steps", place.where, kMaxStages);
  }
  if (*type == "Sequence") return read_steps(place, growth, steps);
  if (*type == "Prepend") return read_prepend(place, steps);
  if (*type == "NFC") {
    steps.emplace_back(NfcStep{});
    return {};
  }
  if (*type == "Replace") {
    Result<ReplaceStep> replace = read_replace(place, growth);
    if (!replace.ok()) return replace.error();
    steps.emplace_back(*std::move(replace));
    return {};
  }
  return make_error(ErrorCode::kUnsupported,
                    "{}: field 'type' is '{}', but Comet supports only NFC, Prepend, Replace and "
                    "Sequence",
                    place.where, printable(*type));
}

}  // namespace

Result<std::vector<JsonPlace>> read_stage_list(const JsonPlace& sequence, std::string_view field) {
  const Result<JsonPlace> array = sequence.require_array(field);
  if (!array.ok()) return array.error();
  if (array->value->size() > kMaxStages) {
    return make_error(ErrorCode::kUnsupported, "{} has {} stages, more than the limit of {}",
                      array->where, array->value->size(), kMaxStages);
  }
  std::vector<JsonPlace> list;
  for (size_t i = 0; i < array->value->size(); ++i) {
    list.push_back(array->element(i));
    if (!list.back().value->is_object()) return list.back().unexpected("an object");
  }
  return list;
}

Result<std::string> read_literal_pattern(const JsonPlace& stage) {
  const Result<JsonPlace> pattern = stage.require_object("pattern");
  if (!pattern.ok()) return pattern.error();
  if (!pattern->find("String")) {
    return make_error(ErrorCode::kUnsupported,
                      "{}: field 'String' is missing; Comet supports no regular expression here",
                      pattern->where);
  }
  Result<std::string> literal = pattern->require_string("String");
  if (literal.ok() && literal->empty()) {
    return make_error(ErrorCode::kUnsupported, "{}: field 'String' is empty", pattern->where);
  }
  return literal;
}

Result<ReplaceStep> read_replace(const JsonPlace& stage, size_t& growth) {
  Result<std::string> from = read_literal_pattern(stage);
  if (!from.ok()) return from.error();
  Result<std::string> to = stage.require_string("content");
  if (!to.ok()) return to.error();
  growth *= 1 + (to->size() - std::min(to->size(), size_t{1})) / from->size();
  if (growth > kMaxGrowth) {
    return make_error(ErrorCode::kUnsupported,
                      "{}: field 'content' can make a text more than {} times as long", stage.where,
                      kMaxGrowth);
  }
  return ReplaceStep{*std::move(from), *std::move(to)};
}

Result<Normalizer> read_normalizer(const JsonPlace& root) {
  if (!root.find("normalizer")) return Normalizer();
  const Result<JsonPlace> place = root.require_object("normalizer");
  if (!place.ok()) return place.error();
  std::vector<NormalizerStep> steps;
  size_t growth = 1;
  if (Status status = read_step(*place, growth, steps); !status.ok()) return status.error();
  return Normalizer(std::move(steps));
}

}  // namespace comet::text
