#include <array>

#include "comet/text/bpe/byte_level.h"
#include "comet/text/json/stages.h"
#include "comet/text/unicode/printable.h"
#include "comet/text/unicode/utf8.h"

namespace comet::text {
namespace {

/// What a merge is made of, as the file spells it.
struct MergeSides {
  std::string left;
  std::string right;
};

Status check_options(const JsonPlace& model) {
  if (Status status = model.only_type("type", "BPE"); !status.ok()) return status;
  const Result<std::optional<double>> dropout = model.object().number("dropout", 0, 1);
  if (!dropout.ok()) return dropout.error();
  if (dropout->value_or(0) != 0) {
    return make_error(ErrorCode::kUnsupported,
                      "{}: field 'dropout' is {}, but Comet supports only null (no dropout)",
                      model.where, **dropout);
  }
  for (const char* field : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    Result<std::optional<std::string>> affix = model.object().string(field);
    if (!affix.ok()) return affix.error();
    if (*affix && !(*affix)->empty()) {
      return make_error(ErrorCode::kUnsupported,
                        "{}: field '{}' is '{}', but Comet supports only null", model.where, field,
                        printable(**affix));
    }
  }
  return {};
}

Status read_vocab(const JsonPlace& vocab, DecoderStages& decoder,
                  std::vector<VocabularyEntry>& entries) {
  if (vocab.value->size() > static_cast<size_t>(kMaxVocabSize)) {
    return make_error(ErrorCode::kCorrupt, "{} has {} tokens, more than the limit of {}",
                      vocab.where, vocab.value->size(), kMaxVocabSize);
  }
  entries.reserve(entries.size() + vocab.value->size());
  for (const auto& [spelling, id_value] : vocab.value->items()) {
    const bool is_id = id_value.is_number_unsigned() &&
                       id_value.get<uint64_t>() < static_cast<uint64_t>(kMaxVocabSize);
    if (!is_id) {
      const JsonPlace place{&id_value,
                            fmt::format("{}: field '{}'", vocab.where, printable(spelling))};
      return place.unexpected(fmt::format("an integer from 0 to {}", kMaxVocabSize - 1));
    }
    entries.push_back(decoder.entry(id_value.get<int32_t>(), spelling, false));
  }
  return {};
}

/// The id of a token of the vocabulary, whose ids read_vocab has checked.
std::optional<int32_t> vocab_id(const Json& vocab, const std::string& spelling) {
  const auto it = vocab.find(spelling);
  return it == vocab.end() ? std::nullopt : std::optional<int32_t>(it->get<int32_t>());
}

/// unk_token, fuse_unk and byte_fallback do not count at the byte level: they act only on a byte
/// without a token, and such a vocabulary is refused.
Status read_byte_ids(const JsonPlace& vocab, std::array<int32_t, 256>& byte_ids) {
  for (size_t byte = 0; byte < byte_ids.size(); ++byte) {
    const std::string spelling = byte_spelling(static_cast<uint8_t>(byte));
    const std::optional<int32_t> id = vocab_id(*vocab.value, spelling);
    if (!id) {
      return make_error(ErrorCode::kCorrupt,
                        "{} has no token '{}' for byte 0x{:02X}; a byte-level BPE vocabulary needs "
                        "one for each of the 256 bytes",
                        vocab.where, spelling, byte);
    }
    byte_ids[byte] = *id;
  }
  return {};
}

Status read_flag(const JsonPlace& place, std::string_view field, bool& flag) {
  const Result<std::optional<bool>> value = place.object().boolean(field);
  if (!value.ok()) return value.error();
  flag = value->value_or(false);
  return {};
}

/// What a word of characters starts from: the tokens of one character, and what stands in for a
/// character that has none.
Status read_characters(const JsonPlace& model, const Json& vocab,
                       const std::vector<VocabularyEntry>& entries, BpeModel& bpe) {
  bpe.is_byte_level = false;
  for (const VocabularyEntry& entry : entries) {
    if (entry.spelling.empty()) continue;
    const CodePoint c = code_point_at(entry.spelling, 0);
    if (c.num_bytes == entry.spelling.size()) bpe.char_ids.emplace(c.value, entry.id);
  }
  if (Status s = read_flag(model, "byte_fallback", bpe.byte_fallback); !s.ok()) return s;
  if (Status s = read_flag(model, "fuse_unk", bpe.fuse_unk); !s.ok()) return s;
  for (size_t byte = 0; byte < bpe.byte_ids.size(); ++byte) {
    bpe.byte_ids[byte] =
        vocab_id(vocab, fmt::format("<0x{:02X}>", byte)).value_or(BpeModel::kNoToken);
  }
  const Result<std::optional<std::string>> unk = model.object().string("unk_token");
  if (!unk.ok()) return unk.error();
  if (*unk) {
    const std::optional<int32_t> id = vocab_id(vocab, **unk);
    if (!id) {
      return make_error(ErrorCode::kCorrupt,
                        "{}: field 'unk_token' is '{}', which is not in model.vocab", model.where,
                        printable(**unk));
    }
    bpe.unk_id = *id;
  }
  return {};
}

/// A merge is ["left", "right"], or "left right" in files of before 2024.
Result<MergeSides> read_sides(const JsonPlace& merge) {
  const Json& value = *merge.value;
  if (value.is_array() && value.size() == 2 && value[0].is_string() && value[1].is_string()) {
    return MergeSides{value[0].get<std::string>(), value[1].get<std::string>()};
  }
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    const size_t blank = text.find(' ');
    if (blank != std::string::npos && text.find(' ', blank + 1) == std::string::npos) {
      return MergeSides{text.substr(0, blank), text.substr(blank + 1)};
    }
  }
  return merge.unexpected("two tokens, \"left right\" or [\"left\", \"right\"]");
}

/// Adds one merge. A side must not be empty, so a merge always makes a longer token and there can
/// be no cycle.
Status read_merge(const JsonPlace& place, const Json& vocab, uint32_t rank, MergeTable& merges) {
  Result<MergeSides> sides = read_sides(place);
  if (!sides.ok()) return sides.error();
  if (sides->left.empty() || sides->right.empty()) {
    return place.unexpected("two tokens that are not empty");
  }
  std::array<int32_t, 3> ids{};
  size_t num_found = 0;
  for (const std::string& token : {sides->left, sides->right, sides->left + sides->right}) {
    const std::optional<int32_t> id = vocab_id(vocab, token);
    if (!id) {
      return make_error(
          ErrorCode::kCorrupt, "{} merges '{}' and '{}', but the token '{}' is not in model.vocab",
          place.where, printable(sides->left), printable(sides->right), printable(token));
    }
    ids[num_found++] = *id;
  }
  if (!merges.insert(ids[0], ids[1], {rank, ids[2]})) {
    return make_error(ErrorCode::kCorrupt,
                      "{} merges '{}' and '{}' a second time; each pair may merge only once",
                      place.where, printable(sides->left), printable(sides->right));
  }
  return {};
}

Status read_merges(const JsonPlace& array, const Json& vocab, MergeTable& merges) {
  const size_t num_merges = array.value->size();
  if (num_merges > static_cast<size_t>(kMaxVocabSize)) {
    return make_error(ErrorCode::kCorrupt, "{} has {} merges, more than the limit of {}",
                      array.where, num_merges, kMaxVocabSize);
  }
  merges = MergeTable(num_merges);
  for (size_t i = 0; i < num_merges; ++i) {
    Status status = read_merge(array.element(i), vocab, static_cast<uint32_t>(i), merges);
    if (!status.ok()) return status;
  }
  return {};
}

}  // namespace

Result<BpeModel> read_bpe_model(const JsonPlace& model, bool is_byte_level, DecoderStages& decoder,
                                std::vector<VocabularyEntry>& entries) {
  if (Status status = check_options(model); !status.ok()) return status.error();
  const Result<JsonPlace> vocab = model.require_object("vocab");
  if (!vocab.ok()) return vocab.error();
  const Result<JsonPlace> merges = model.require_array("merges");
  if (!merges.ok()) return merges.error();
  bool ignore_merges = false;
  if (Status s = read_flag(model, "ignore_merges", ignore_merges); !s.ok()) return s.error();

  BpeModel bpe;
  if (Status status = read_vocab(*vocab, decoder, entries); !status.ok()) return status.error();
  Status status = is_byte_level ? read_byte_ids(*vocab, bpe.byte_ids)
                                : read_characters(model, *vocab->value, entries, bpe);
  if (!status.ok()) return status.error();
  if (status = read_merges(*merges, *vocab->value, bpe.merges); !status.ok()) return status.error();
  if (!ignore_merges) return bpe;
  for (const VocabularyEntry& entry : entries) {
    if (!is_byte_level) {
      bpe.whole_words.emplace(entry.spelling, entry.id);
    } else if (spelled_bytes(entry.spelling)) {  // another cannot come out of text
      bpe.whole_words.emplace(entry.bytes, entry.id);
    }
  }
  return bpe;
}

}  // namespace comet::text
