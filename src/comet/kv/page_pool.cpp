#include <algorithm>
#include <functional>
#include <numeric>

#include "comet/kv/kv_cache.h"

namespace comet::kv {

PagePool::PagePool(int64_t num_pages) : taken_(static_cast<size_t>(num_pages), false) {
  COMET_CHECK(num_pages >= 0 && num_pages <= INT32_MAX, "{} pages", num_pages);
  free_.resize(static_cast<size_t>(num_pages));
  std::iota(free_.begin(), free_.end(), 0);  // ascending: already a heap, lowest first
}

bool PagePool::take(int64_t count, std::vector<int32_t>& pages) {
  COMET_CHECK(count >= 0, "{} pages", count);
  if (count > num_free()) return false;
  for (int64_t i = 0; i < count; ++i) {
    std::pop_heap(free_.begin(), free_.end(), std::greater<>());
    pages.push_back(free_.back());
    taken_[static_cast<size_t>(free_.back())] = true;
    free_.pop_back();
  }
  return true;
}

void PagePool::give_back(const std::vector<int32_t>& pages) {
  // Freed one by one, so that a page named twice is seen; undone when a page is wrong.
  for (size_t i = 0; i < pages.size(); ++i) {
    const auto page = static_cast<size_t>(pages[i]);
    const bool valid = pages[i] >= 0 && page < taken_.size() && taken_[page];
    if (!valid) {
      for (size_t j = 0; j < i; ++j) taken_[static_cast<size_t>(pages[j])] = true;
    }
    COMET_CHECK(valid, "page {} of {} is not taken", pages[i], taken_.size());
    taken_[page] = false;
  }
  for (const int32_t page : pages) {
    free_.push_back(page);
    std::push_heap(free_.begin(), free_.end(), std::greater<>());
  }
}

}  // namespace comet::kv
