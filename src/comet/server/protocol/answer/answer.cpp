#include "comet/server/protocol/answer/answer.h"

#include <cmath>

#include "comet/server/protocol/answer/answer_json.h"

namespace comet::server {
namespace {

/// Length of the well-formed UTF-8 character at `at`; 0 when there is none.
size_t character_length(const std::string& text, size_t at) {
  const auto byte = [&](size_t i) {
    return i < text.size() ? static_cast<uint8_t>(text[i]) : uint8_t{0};
  };
  const uint8_t first = byte(at);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return 0;
  }
  const uint8_t second = byte(at + 1);
  const bool overlong = (first == 0xE0 && second < 0xA0) || (first == 0xF0 && second < 0x90);
  const bool surrogate = first == 0xED && second >= 0xA0;
  const bool too_large = first == 0xF4 && second >= 0x90;
  return overlong || surrogate || too_large ? 0 : length;
}

}  // namespace

std::string lossy_text(const std::string& bytes) {
  std::string text;
  for (size_t i = 0; i < bytes.size();) {
    const size_t length = character_length(bytes, i);
    text += length == 0 ? "\xEF\xBF\xBD" : bytes.substr(i, length);
    i += length == 0 ? 1 : length;
  }
  return text;
}

std::string token_name(const std::string& bytes) {
  bool valid = true;
  for (size_t i = 0; i < bytes.size() && valid;) {
    const size_t length = character_length(bytes, i);
    valid = length > 0;
    i += length;
  }
  if (valid) return bytes;
  std::string name = "bytes:";
  for (const char byte : bytes) name += fmt::format("\\x{:02x}", static_cast<uint8_t>(byte));
  return name;
}

int64_t num_characters(const std::string& text) {
  int64_t count = 0;
  for (const char byte : text) count += (static_cast<uint8_t>(byte) & 0xC0) != 0x80 ? 1 : 0;
  return count;
}

std::string sse_event(const std::string& data) { return "data: " + data + "\n\n"; }

OrderedJson usage_json(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens}};
}

OrderedJson answer_json(const AnswerHead& head, const char* object, OrderedJson choices) {
  return {{"id", head.id},
          {"object", object},
          {"created", head.created},
          {"model", head.model},
          {"choices", std::move(choices)}};
}

void add_chunk_usage(const AnswerHead& head, const Usage& usage, OrderedJson& chunk) {
  if (head.continuous_usage) {
    chunk["usage"] = usage_json(usage);
  } else if (head.include_usage) {
    chunk["usage"] = nullptr;
  }
}

double finite_logprob(double logprob) {
  constexpr double kLowest = -9999.0;
  return std::isfinite(logprob) ? logprob : kLowest;
}

std::string json_text(const OrderedJson& value) {
  return value.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

}  // namespace comet::server
