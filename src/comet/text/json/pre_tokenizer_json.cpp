#include "comet/text/json/stages.h"
#include "comet/text/unicode/printable.h"

namespace comet::text {
namespace {

Result<const SplitPattern*> read_split(const JsonPlace& split) {
  if (Status status = split.only_type("type", "Split"); !status.ok()) return status.error();
  if (Status status = split.only_type("behavior", "Isolated"); !status.ok()) return status.error();
  if (Status status = split.only_flag("invert", false); !status.ok()) return status.error();
  const Result<JsonPlace> pattern = split.require_object("pattern");
  if (!pattern.ok()) return pattern.error();
  if (!pattern->find("Regex")) {
    return make_error(ErrorCode::kUnsupported,
                      "{}: field 'Regex' is missing; Comet supports only patterns that are regular "
                      "expressions",
                      pattern->where);
  }
  const Result<std::string> regex = pattern->require_string("Regex");
  if (!regex.ok()) return regex.error();
  const SplitPattern* found = find_split_pattern(*regex);
  if (found == nullptr) {
    return make_error(ErrorCode::kUnsupported,
                      "{}: field 'Regex' is '{}', which is no pattern that Comet knows (LLaMA-3's)",
                      pattern->where, printable(*regex, 200));
  }
  return found;
}

Status check_byte_level(const JsonPlace& byte_level) {
  if (Status status = byte_level.only_type("type", "ByteLevel"); !status.ok()) return status;
  if (!byte_level.find("use_regex")) {
    return make_error(ErrorCode::kUnsupported,
                      "{}: field 'use_regex' is missing, which means true, but Comet supports only "
                      "false",
                      byte_level.where);
  }
  if (Status status = byte_level.only_flag("use_regex", false); !status.ok()) return status;
  return byte_level.only_flag("add_prefix_space", false);
}

}  // namespace

Result<const SplitPattern*> read_pre_tokenizer(const JsonPlace& root) {
  const Result<JsonPlace> sequence = root.require_object("pre_tokenizer");
  if (!sequence.ok()) return sequence.error();
  if (Status status = sequence->only_type("type", "Sequence"); !status.ok()) return status.error();
  const Result<JsonPlace> stages = sequence->require_array("pretokenizers");
  if (!stages.ok()) return stages.error();
  if (stages->value->size() != 2) {
    return make_error(ErrorCode::kUnsupported,
                      "{} has {} stages, but Comet supports only a Split followed by a ByteLevel",
                      stages->where, stages->value->size());
  }
  if (Status status = check_byte_level(stages->element(1)); !status.ok()) return status.error();
  return read_split(stages->element(0));
}

}  // namespace comet::text
