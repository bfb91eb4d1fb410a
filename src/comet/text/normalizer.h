// The normalizer of a tokenizer.json: what happens to plain text (and to the added tokens that are
// `normalized`) before it is cut into words. Callers: Tokenizer::encode and the reader.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace comet::text {

struct PrependStep {
  std::string prefix;
};
struct ReplaceStep {
  std::string from;  // never empty
  std::string to;
};
struct NfcStep {};
using NormalizerStep = std::variant<PrependStep, ReplaceStep, NfcStep>;

class Normalizer {
 public:
  Normalizer() = default;
  explicit Normalizer(std::vector<NormalizerStep> steps) : steps_(std::move(steps)) {}

  [[nodiscard]] bool is_identity() const { return steps_.empty(); }
  /// `text` is valid UTF-8, and so is the result.
  [[nodiscard]] std::string apply(std::string_view text) const;

 private:
  std::vector<NormalizerStep> steps_;
};

/// `text` with every occurrence of `from` (not empty), left to right, replaced.
std::string replace_all(std::string_view text, std::string_view from, std::string_view to);

}  // namespace comet::text
