// StopMatcher: finds stop strings in text that arrives in pieces. What may yet become a stop string
// is held back, so that none of it, nor anything behind it, is ever given out.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace comet::engine {

class StopMatcher {
 public:
  StopMatcher() = default;
  /// No stop string may be empty.
  explicit StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  /// The text that became sure. The stop string that is complete first ends it (of those complete
  /// at the same byte, the longest): how the text is cut into pieces changes nothing.
  std::string push(std::string_view piece);
  /// What was held back, at the end of the text. Empty after a match.
  std::string flush();

  /// The stop string that was found; null: none so far.
  [[nodiscard]] const std::string* matched() const {
    return matched_idx_ < 0 ? nullptr : &stops_[matched_idx_];
  }

 private:
  std::vector<std::string> stops_;
  std::string held_;  // a proper prefix of a stop string
  int64_t matched_idx_ = -1;
};

}  // namespace comet::engine
