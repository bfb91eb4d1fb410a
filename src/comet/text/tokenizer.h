// Text <-> token ids, as the checkpoint's tokenizer.json says and as Python's `tokenizers` does it.
// Made once for a model; immutable, cheap to copy and safe to use from several threads.
// Callers: engine, server and the apps. The caller reads the file: this room touches none.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "comet/base/result.h"

namespace comet::text {

struct EncodeOptions {
  bool add_special_tokens = true;  // what the file's post-processor adds: LLaMA's BOS
  bool parse_special = true;       // a special token spelled out in the text becomes its id
};

struct TokenizerParts;

class Tokenizer {
 public:
  /// `json_bytes`: the content of a tokenizer.json; `source_name`: the file, which opens every
  /// error. kUnsupported names the field that asks for what Comet does not have; kCorrupt and
  /// kInvalidArgument name the field that is wrong.
  static Result<Tokenizer> from_json(std::string_view json_bytes, const std::string& source_name);

  /// Any bytes shorter than 4 GiB; what is not UTF-8 counts as U+FFFD (see replace_invalid_utf8).
  [[nodiscard]] std::vector<int32_t> encode(std::string_view text,
                                            EncodeOptions options = {}) const;

  /// Always valid UTF-8: bytes that form no character become U+FFFD. Ids that no token has are
  /// skipped; with `skip_special` so are the special tokens.
  [[nodiscard]] std::string decode(std::span<const int32_t> ids, bool skip_special) const;

  /// The largest id plus 1.
  [[nodiscard]] int64_t vocab_size() const;
  /// By the file's spelling: "<|eot_id|>", but "Ġthe" or "▁the" for " the".
  [[nodiscard]] std::optional<int32_t> token_id(std::string_view spelling) const;
  /// What the token stands for, perhaps a part of a character; empty for an id that no token has.
  /// Valid while this tokenizer or a copy of it lives.
  [[nodiscard]] std::string_view token_bytes(int32_t id) const;
  [[nodiscard]] bool is_special(int32_t id) const;

 private:
  friend class StreamDecoder;
  explicit Tokenizer(std::shared_ptr<const TokenizerParts> parts) : parts_(std::move(parts)) {}

  std::shared_ptr<const TokenizerParts> parts_;
};

}  // namespace comet::text
