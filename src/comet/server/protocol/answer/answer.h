// Answers of the generation routes: whole, or as the chunks of a stream, in the shapes that the
// openai Python client types. Pure: pieces of text in, JSON text out. Callers: endpoints.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace comet::server {

struct Alternative {
  std::string bytes;
  double logprob = 0;
};

struct TokenLogprobs {
  std::string bytes;              // what the token stands for, perhaps a part of a character
  std::optional<double> logprob;  // empty: the first token of an echoed prompt
  std::vector<Alternative> top;   // likeliest first
  int64_t text_offset = 0;        // characters of the choice's text before this token
};

/// A piece of one choice, or all of it.
struct ChoicePiece {
  int64_t index = 0;
  std::string text;
  std::vector<TokenLogprobs> logprobs;
  std::string finish_reason;  // "stop", "length"; empty: not finished
};

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
};

struct AnswerHead {
  std::string id;
  int64_t created = 0;  // seconds since 1970
  std::string model;
  bool with_logprobs = false;
  bool include_usage = false;     // streams: "usage" in every chunk, null before the last
  bool continuous_usage = false;  // streams: usage so far in every chunk
};

class AnswerFormat {
 public:
  virtual ~AnswerFormat() = default;
  /// Server-sent events that open the stream of choice `index`; perhaps none.
  [[nodiscard]] virtual std::string open_choice(int64_t index, const Usage& usage) const = 0;
  /// Server-sent events of a piece; with a finish reason they end the choice.
  [[nodiscard]] virtual std::string chunk(const ChoicePiece& piece, const Usage& usage) const = 0;
  [[nodiscard]] virtual std::string usage_chunk(const Usage& usage) const = 0;
  [[nodiscard]] virtual std::string whole(const std::vector<ChoicePiece>& choices,
                                          const Usage& usage) const = 0;
};

std::unique_ptr<AnswerFormat> make_completion_format(AnswerHead head);
std::unique_ptr<AnswerFormat> make_chat_format(AnswerHead head);

/// One server-sent event with this data.
std::string sse_event(const std::string& data);
/// The end of every stream.
inline constexpr const char* kSseDone = "data: [DONE]\n\n";

/// Valid UTF-8: every byte that is part of no character becomes U+FFFD.
std::string lossy_text(const std::string& bytes);
/// The bytes as text, or "bytes:\xe2\x80" where they are no characters: names that do not collide.
std::string token_name(const std::string& bytes);
/// Characters of valid UTF-8.
int64_t num_characters(const std::string& text);

}  // namespace comet::server
