// The decoders that Comet has, alone or in a Sequence: ByteLevel; Metaspace; or any Replace, then
// perhaps ByteFallback, Fuse and, behind Fuse, Strip at the start (LLaMA-2, Mistral, Gemma, Phi-3).
#include <optional>

#include "comet/text/bpe/byte_level.h"
#include "comet/text/json/stages.h"
#include "comet/text/unicode/printable.h"
#include "comet/text/unicode/utf8.h"

namespace comet::text {
namespace {

constexpr int64_t kMaxStrips = 1 << 16;

/// What the decoders so far do, in the order in which they must come.
enum class Order { kStart, kReplace, kByteFallback, kFuse, kDone };

struct Progress {
  Order order = Order::kStart;
  size_t growth = 1;
};

Error out_of_order(const JsonPlace& place, std::string_view type) {
  return make_error(ErrorCode::kUnsupported,
                    "{}: field 'type' is '{}', but Comet supports only ByteLevel, Metaspace, or "
                    "Replace, ByteFallback, Fuse, Strip in this order",
                    place.where, printable(type));
}

Status read_strip(const JsonPlace& place, DecoderRules& rules) {
  Result<std::string> content = place.require_string("content");
  if (!content.ok()) return content.error();
  if (content->empty() || code_point_at(*content, 0).num_bytes != content->size()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: field 'content' is '{}'; expected one character", place.where,
                      printable(*content));
  }
  const Result<int64_t> start = place.require_integer("start", 0, kMaxStrips);
  if (!start.ok()) return start.error();
  const Result<int64_t> stop = place.require_integer("stop", 0, kMaxStrips);
  if (!stop.ok()) return stop.error();
  if (*stop != 0) {
    return make_error(
        ErrorCode::kUnsupported,
        "{}: field 'stop' is {}, but Comet supports only 0: a stream cannot strip its "
        "end",
        place.where, *stop);
  }
  rules.strip = *std::move(content);
  rules.max_strips = static_cast<size_t>(*start);
  return {};
}

Status read_metaspace(const JsonPlace& place, DecoderStages& decoder) {
  Result<std::string> replacement = read_metaspace_character(place);
  if (!replacement.ok()) return replacement.error();
  const Result<std::optional<bool>> prefix = place.object().boolean("add_prefix_space");
  if (!prefix.ok()) return prefix.error();
  const Result<std::optional<std::string>> scheme = place.object().string("prepend_scheme");
  if (!scheme.ok()) return scheme.error();
  decoder.metaspace = *std::move(replacement);
  decoder.rules.first_loses_blanks =
      prefix->value_or(true) && scheme->value_or("always") != "never";
  return {};
}

/// Replace, ByteFallback, Fuse or Strip.
Status read_text_stage(const JsonPlace& place, const std::string& type, Progress& progress,
                       DecoderStages& decoder) {
  const Order order = progress.order;
  if (type == "Replace" && order <= Order::kReplace) {
    progress.order = Order::kReplace;
    Result<ReplaceStep> replace = read_replace(place, progress.growth);
    if (!replace.ok()) return replace.error();
    decoder.replaces.push_back(*std::move(replace));
    return {};
  }
  if (type == "ByteFallback" && order < Order::kByteFallback) {
    progress.order = Order::kByteFallback;
    decoder.rules.byte_fallback = true;
    return {};
  }
  if (type == "Fuse" && order <= Order::kFuse) {
    progress.order = Order::kFuse;
    return {};
  }
  if (type == "Strip" && order == Order::kFuse) {
    progress.order = Order::kDone;
    return read_strip(place, decoder.rules);
  }
  return out_of_order(place, type);
}

Status read_stage(const JsonPlace& place, Progress& progress, DecoderStages& decoder) {
  const Result<std::string> type = place.require_string("type");
  if (!type.ok()) return type.error();
  if (*type == "Sequence") {
    const Result<std::vector<JsonPlace>> list = read_stage_list(place, "decoders");
    if (!list.ok()) return list.error();
    for (const JsonPlace& stage : *list) {
      if (Status status = read_stage(stage, progress, decoder); !status.ok()) return status;
    }
    return {};
  }
  const bool is_alone = *type == "ByteLevel" || *type == "Metaspace";
  if (!is_alone) return read_text_stage(place, *type, progress, decoder);
  if (progress.order != Order::kStart) return out_of_order(place, *type);
  progress.order = Order::kDone;
  if (*type == "Metaspace") return read_metaspace(place, decoder);
  decoder.is_byte_level = true;
  return {};
}

/// 0xE2 for "<0xE2>", as the byte-fallback decoder reads it.
std::optional<uint8_t> byte_of(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return std::nullopt;
  int value = 0;
  for (const char c : text.substr(3, 2)) {
    const bool is_digit = c >= '0' && c <= '9';
    const char letter = static_cast<char>(c | 0x20);
    if (!is_digit && (letter < 'a' || letter > 'f')) return std::nullopt;
    value = value * 16 + (is_digit ? c - '0' : letter - 'a' + 10);
  }
  return static_cast<uint8_t>(value);
}

}  // namespace

VocabularyEntry DecoderStages::entry(int32_t id, std::string spelling, bool special) {
  VocabularyEntry entry{id, std::move(spelling), {}, special, false};
  if (is_byte_level) {
    // Every token is read as byte characters where it can be, added ones too.
    entry.bytes = spelled_bytes(entry.spelling).value_or(entry.spelling);
    return entry;
  }
  entry.bytes = entry.spelling;
  for (const ReplaceStep& step : replaces) {
    entry.bytes = replace_all(entry.bytes, step.from, step.to);
  }
  if (!metaspace.empty()) {
    entry.bytes = replace_all(entry.spelling, metaspace, " ");
    if (rules.first_loses_blanks && entry.spelling.find(' ') != std::string::npos) {
      rules.first_texts[id] = replace_all(entry.spelling, metaspace, "");
    }
  }
  if (const std::optional<uint8_t> byte = byte_of(entry.bytes); rules.byte_fallback && byte) {
    entry.bytes = std::string(1, static_cast<char>(*byte));
    entry.is_byte = true;
  }
  return entry;
}

Result<DecoderStages> read_decoder(const JsonPlace& root) {
  const Result<JsonPlace> place = root.require_object("decoder");
  if (!place.ok()) return place.error();
  DecoderStages decoder;
  Progress progress;
  if (Status status = read_stage(*place, progress, decoder); !status.ok()) return status.error();
  return decoder;
}

}  // namespace comet::text
