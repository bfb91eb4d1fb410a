// The words of LLaMA-3's split pattern. Called through the table in split_pattern.cpp.
#pragma once

#include <cstddef>
#include <string_view>

namespace comet::text {

/// See SplitPattern::word_end.
size_t llama3_word_end(std::string_view text, size_t begin);

}  // namespace comet::text
