// The hand-written scanners behind the table of split_pattern.cpp: each returns the end of the word
// that starts at `begin` (< text.size()), always > begin, for valid UTF-8; linear over the words.
#pragma once

#include <cstddef>
#include <string_view>

namespace comet::text {

size_t gpt2_word_end(std::string_view text, size_t begin);
size_t llama3_word_end(std::string_view text, size_t begin);
size_t qwen2_word_end(std::string_view text, size_t begin);  // as LLaMA-3's, digits one by one

}  // namespace comet::text
