#include "comet/engine/stop_matcher.h"

#include <algorithm>

namespace comet::engine {

std::string StopMatcher::push(std::string_view piece) {
  if (matched() != nullptr) return {};
  if (stops_.empty()) return std::string(piece);
  held_ += piece;
  size_t first_end = std::string::npos;
  for (size_t i = 0; i < stops_.size(); ++i) {
    const size_t at = held_.find(stops_[i]);
    if (at == std::string::npos) continue;
    const size_t end = at + stops_[i].size();
    if (end < first_end || (end == first_end && stops_[i].size() > matched()->size())) {
      first_end = end;
      matched_idx_ = static_cast<int64_t>(i);
    }
  }
  std::string sure = std::move(held_);
  held_.clear();
  if (matched() != nullptr) {
    sure.resize(first_end - matched()->size());
    return sure;
  }
  size_t keep = 0;
  for (const std::string& stop : stops_) {
    for (size_t n = std::min(stop.size() - 1, sure.size()); n > keep; --n) {
      if (std::string_view(sure).ends_with(std::string_view(stop).substr(0, n))) keep = n;
    }
  }
  held_ = sure.substr(sure.size() - keep);
  sure.resize(sure.size() - keep);
  return sure;
}

std::string StopMatcher::flush() {
  std::string rest = std::move(held_);
  held_.clear();
  return matched() != nullptr ? std::string() : rest;
}

}  // namespace comet::engine
