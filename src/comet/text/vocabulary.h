// The tokens of a tokenizer: id -> bytes, spelling -> id, and which ids are special. Dense in the
// ids; an id that no token has (a hole) has no bytes. Built once by the tokenizer.json reader.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "comet/base/result.h"

namespace comet::text {

/// Lets a map of std::string be asked with a std::string_view.
struct StringHash {
  using is_transparent = void;  // NOLINT(readability-identifier-naming)
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};
using IdBySpelling = std::unordered_map<std::string, int32_t, StringHash, std::equal_to<>>;

struct VocabularyEntry {
  int32_t id = 0;
  std::string spelling;  // as tokenizer.json writes it
  std::string bytes;     // what it decodes to
  bool special = false;
  bool is_byte = false;  // stands for one byte, perhaps not a whole character (byte fallback)
};

/// Ids lie in [0, kMaxVocabSize).
inline constexpr int64_t kMaxVocabSize = int64_t{1} << 22;

class Vocabulary {
 public:
  /// An id or a spelling that occurs twice is an error; `source` opens its message.
  static Result<Vocabulary> build(std::vector<VocabularyEntry> entries, std::string_view source);

  /// The largest id plus 1.
  [[nodiscard]] int64_t size() const { return static_cast<int64_t>(byte_ends_.size()) - 1; }
  [[nodiscard]] std::optional<int32_t> find(std::string_view spelling) const;
  /// Empty for a hole and for an id outside [0, size()).
  [[nodiscard]] std::string_view bytes(int32_t id) const;
  [[nodiscard]] bool is_special(int32_t id) const;
  [[nodiscard]] bool is_byte(int32_t id) const;
  /// Some token has the id.
  [[nodiscard]] bool contains(int32_t id) const;

 private:
  enum Flag : uint8_t { kPresent = 1, kSpecial = 2, kByte = 4 };

  [[nodiscard]] bool has(int32_t id, Flag flag) const {
    return id >= 0 && id < size() && (flags_[static_cast<size_t>(id)] & flag) != 0;
  }

  IdBySpelling ids_;
  std::string all_bytes_;
  std::vector<uint32_t> byte_ends_{0};  // token id is all_bytes_[byte_ends_[id], byte_ends_[id+1])
  std::vector<uint8_t> flags_;          // of each id; none in a hole
};

}  // namespace comet::text
