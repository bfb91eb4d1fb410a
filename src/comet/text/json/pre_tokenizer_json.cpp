#include <utility>

#include "comet/text/json/stages.h"
#include "comet/text/unicode/printable.h"
#include "comet/text/unicode/unicode_tables.h"
#include "comet/text/unicode/utf8.h"

namespace comet::text {
namespace {

Result<bool> flag_or(const JsonPlace& place, std::string_view field, bool otherwise) {
  const Result<std::optional<bool>> flag = place.object().boolean(field);
  if (!flag.ok()) return flag.error();
  return flag->value_or(otherwise);
}

Result<SplitBehavior> read_behavior(const JsonPlace& place, std::string_view otherwise) {
  std::string name(otherwise);
  if (otherwise.empty() || place.find("behavior")) {
    Result<std::string> given = place.require_string("behavior");
    if (!given.ok()) return given.error();
    name = *std::move(given);
  }
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return make_error(ErrorCode::kUnsupported,
                    "{}: field 'behavior' is '{}', but Comet supports only Removed, Isolated, "
                    "MergedWithPrevious, MergedWithNext and Contiguous",
                    place.where, printable(name));
}

Status read_split(const JsonPlace& place, PreTokenizerStages& out) {
  const Result<SplitBehavior> behavior = read_behavior(place, "");
  if (!behavior.ok()) return behavior.error();
  const Result<bool> invert = flag_or(place, "invert", false);
  if (!invert.ok()) return invert.error();
  const Result<JsonPlace> pattern = place.require_object("pattern");
  if (!pattern.ok()) return pattern.error();
  if (!pattern->find("Regex")) {
    Result<std::string> literal = read_literal_pattern(place);
    if (!literal.ok()) return literal.error();
    out.stages.emplace_back(
        SplitStage{make_literal_pattern(*std::move(literal)), *behavior, *invert});
    return {};
  }
  const Result<std::string> regex = pattern->require_string("Regex");
  if (!regex.ok()) return regex.error();
  const Result<SplitPatternPtr> compiled = make_regex_pattern(*regex, pattern->where);
  if (!compiled.ok()) return compiled.error();
  out.stages.emplace_back(SplitStage{*compiled, *behavior, *invert});
  return {};
}

Status read_byte_level(const JsonPlace& place, PreTokenizerStages& out) {
  const Result<bool> add_prefix_space = flag_or(place, "add_prefix_space", false);
  if (!add_prefix_space.ok()) return add_prefix_space.error();
  const Result<bool> use_regex = flag_or(place, "use_regex", true);
  if (!use_regex.ok()) return use_regex.error();
  if (*add_prefix_space) out.stages.emplace_back(PrefixStage{" ", false});
  if (*use_regex) {
    out.stages.emplace_back(SplitStage{gpt2_pattern(), SplitBehavior::kIsolated, false});
  }
  out.is_byte_level = true;
  return {};
}

/// "always", "first" or "never"; files of before 2024 have a Boolean add_prefix_space instead.
Result<std::string> read_prepend_scheme(const JsonPlace& place) {
  const Result<bool> add_prefix_space = flag_or(place, "add_prefix_space", true);
  if (!add_prefix_space.ok()) return add_prefix_space.error();
  if (!place.find("prepend_scheme")) return std::string(*add_prefix_space ? "always" : "never");
  Result<std::string> scheme = place.require_string("prepend_scheme");
  if (!scheme.ok()) return scheme.error();
  const bool is_known = *scheme == "always" || *scheme == "first" || *scheme == "never";
  if (!is_known || (!*add_prefix_space && *scheme != "never")) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: field 'prepend_scheme' is '{}'; expected always, first or never, and "
                      "never where add_prefix_space is false",
                      place.where, printable(*scheme));
  }
  return scheme;
}

Status read_metaspace(const JsonPlace& place, PreTokenizerStages& out) {
  const Result<std::string> replacement = read_metaspace_character(place);
  if (!replacement.ok()) return replacement.error();
  const Result<std::string> scheme = read_prepend_scheme(place);
  if (!scheme.ok()) return scheme.error();
  const Result<bool> split = flag_or(place, "split", true);
  if (!split.ok()) return split.error();
  out.stages.emplace_back(ReplaceStage{" ", *replacement});
  if (*scheme != "never") out.stages.emplace_back(PrefixStage{*replacement, *scheme == "first"});
  if (*split) {
    out.stages.emplace_back(
        SplitStage{make_literal_pattern(*replacement), SplitBehavior::kMergedWithNext, false});
  }
  return {};
}

Status read_digits(const JsonPlace& place, PreTokenizerStages& out) {
  const Result<bool> individual = flag_or(place, "individual_digits", false);
  if (!individual.ok()) return individual.error();
  const SplitBehavior behavior =
      *individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous;
  out.stages.emplace_back(SplitStage{make_class_pattern(kNumeric), behavior, false});
  return {};
}

Status read_punctuation(const JsonPlace& place, PreTokenizerStages& out) {
  const Result<SplitBehavior> behavior = read_behavior(place, "Isolated");
  if (!behavior.ok()) return behavior.error();
  out.stages.emplace_back(SplitStage{make_class_pattern(kPunctuation), *behavior, false});
  return {};
}

Status read_stage(const JsonPlace& place, PreTokenizerStages& out) {
  const Result<std::string> type = place.require_string("type");
  if (!type.ok()) return type.error();
  if (out.stages.size() >= kMaxStages) {
    return make_error(ErrorCode::kUnsupported, "{} stands behind more than {} stages", place.where,
                      kMaxStages);
  }
  if (out.is_byte_level && *type != "Sequence") {
    const bool is_split = *type == "Split" || *type == "Digits" || *type == "Punctuation";
    if (!is_split) {
      return make_error(ErrorCode::kUnsupported,
                        "{}: field 'type' is '{}', but Comet supports only Split, Digits and "
                        "Punctuation behind a ByteLevel",
                        place.where, printable(*type));
    }
    if (!std::exchange(out.is_spelled, true)) out.stages.emplace_back(SpellBytesStage{false});
  }
  if (*type == "Split") return read_split(place, out);
  if (*type == "ByteLevel") return read_byte_level(place, out);
  if (*type == "Metaspace") return read_metaspace(place, out);
  if (*type == "Digits") return read_digits(place, out);
  if (*type == "Punctuation") return read_punctuation(place, out);
  if (*type != "Sequence") {
    return make_error(ErrorCode::kUnsupported,
                      "{}: field 'type' is '{}', but Comet supports only Split, ByteLevel, "
                      "Metaspace, Digits, Punctuation and Sequence",
                      place.where, printable(*type));
  }
  const Result<std::vector<JsonPlace>> list = read_stage_list(place, "pretokenizers");
  if (!list.ok()) return list.error();
  for (const JsonPlace& stage : *list) {
    if (Status status = read_stage(stage, out); !status.ok()) return status;
  }
  return {};
}

}  // namespace

Result<std::string> read_metaspace_character(const JsonPlace& place) {
  Result<std::string> replacement = place.require_string("replacement");
  if (!replacement.ok()) return replacement.error();
  if (replacement->empty() || code_point_at(*replacement, 0).num_bytes != replacement->size()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: field 'replacement' is '{}'; expected one character", place.where,
                      printable(*replacement));
  }
  return replacement;
}

Result<PreTokenizerStages> read_pre_tokenizer(const JsonPlace& root) {
  PreTokenizerStages out;
  if (!root.find("pre_tokenizer")) return out;
  const Result<JsonPlace> place = root.require_object("pre_tokenizer");
  if (!place.ok()) return place.error();
  if (Status status = read_stage(*place, out); !status.ok()) return status.error();
  if (out.is_spelled) out.stages.emplace_back(SpellBytesStage{true});
  return out;
}

}  // namespace comet::text
