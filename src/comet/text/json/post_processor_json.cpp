#include "comet/text/json/stages.h"
#include "comet/text/unicode/printable.h"

namespace comet::text {
namespace {

// More ids around every text than this is nonsense, and a small file could ask for billions.
constexpr size_t kMaxTemplateIds = 64;

/// Appends the ids of the special token that a template names.
Status read_template_token(const JsonPlace& processor, const std::string& name,
                           const Vocabulary& vocabulary, std::vector<int32_t>& ids) {
  const Result<JsonPlace> tokens = processor.require_object("special_tokens");
  if (!tokens.ok()) return tokens.error();
  const Result<JsonPlace> token = tokens->require_object(name);
  if (!token.ok()) return token.error();
  const Result<JsonPlace> array = token->require_array("ids");
  if (!array.ok()) return array.error();
  for (size_t i = 0; i < array->value->size(); ++i) {
    const JsonPlace id = array->element(i);
    const bool is_integer = id.value->is_number_integer();
    const bool is_small = is_integer && id.value->get<double>() >= 0 &&
                          id.value->get<double>() < static_cast<double>(vocabulary.size());
    if (!is_small || vocabulary.bytes(id.value->get<int32_t>()).empty()) {
      return id.unexpected("the id of a token of the vocabulary");
    }
    ids.push_back(id.value->get<int32_t>());
  }
  if (ids.size() > kMaxTemplateIds) {
    return make_error(ErrorCode::kUnsupported,
                      "{}: field 'single' adds more than {} ids on one side of the text",
                      processor.where, kMaxTemplateIds);
  }
  return {};
}

/// One piece of the template: the text itself, or a token before or behind it.
Status read_template_piece(const JsonPlace& processor, const JsonPlace& piece, bool& seen_text,
                           TokenizerParts& parts) {
  if (piece.find("SpecialToken")) {
    const Result<JsonPlace> token = piece.require_object("SpecialToken");
    if (!token.ok()) return token.error();
    const Result<std::string> name = token->require_string("id");
    if (!name.ok()) return name.error();
    return read_template_token(processor, *name, parts.vocabulary,
                               seen_text ? parts.suffix_ids : parts.prefix_ids);
  }
  if (!piece.find("Sequence")) return piece.unexpected("a SpecialToken or a Sequence");
  const Result<JsonPlace> sequence = piece.require_object("Sequence");
  if (!sequence.ok()) return sequence.error();
  if (Status status = sequence->only_type("id", "A"); !status.ok()) return status;
  if (seen_text) {
    return make_error(ErrorCode::kUnsupported,
                      "{} is a second Sequence, but Comet supports only templates with one",
                      piece.where);
  }
  seen_text = true;
  return {};
}

Status read_template(const JsonPlace& processor, TokenizerParts& parts) {
  const Result<JsonPlace> pieces = processor.require_array("single");
  if (!pieces.ok()) return pieces.error();
  bool seen_text = false;
  for (size_t i = 0; i < pieces->value->size(); ++i) {
    Status status = read_template_piece(processor, pieces->element(i), seen_text, parts);
    if (!status.ok()) return status;
  }
  if (!seen_text) {
    return make_error(ErrorCode::kInvalidArgument, "{} has no Sequence; the text would be lost",
                      pieces->where);
  }
  return {};
}

Status read_processor(const JsonPlace& processor, bool& seen_template, TokenizerParts& parts) {
  const Result<std::string> type = processor.require_string("type");
  if (!type.ok()) return type.error();
  if (*type == "ByteLevel") return {};  // it corrects offsets, which Comet does not report
  if (*type != "TemplateProcessing" || seen_template) {
    return make_error(ErrorCode::kUnsupported,
                      "{}: field 'type' is '{}', but Comet supports only ByteLevel and one "
                      "TemplateProcessing",
                      processor.where, printable(*type));
  }
  seen_template = true;
  return read_template(processor, parts);
}

}  // namespace

Status read_post_processor(const JsonPlace& root, TokenizerParts& parts) {
  if (!root.find("post_processor")) return {};
  const Result<JsonPlace> processor = root.require_object("post_processor");
  if (!processor.ok()) return processor.error();
  const Result<std::string> type = processor->require_string("type");
  if (!type.ok()) return type.error();
  bool seen_template = false;
  if (*type != "Sequence") return read_processor(*processor, seen_template, parts);
  const Result<JsonPlace> processors = processor->require_array("processors");
  if (!processors.ok()) return processors.error();
  for (size_t i = 0; i < processors->value->size(); ++i) {
    Status status = read_processor(processors->element(i), seen_template, parts);
    if (!status.ok()) return status;
  }
  return {};
}

}  // namespace comet::text
