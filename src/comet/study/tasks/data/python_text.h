// Python's string methods where lm-evaluation-harness's prompts depend on them: strip and rstrip
// take Unicode white space, capitalize lowers the rest, len counts code points. Callers: the tasks'
// readers and the scorer. Texts are valid UTF-8 (rows.h sees to it).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace comet::study {

std::string_view python_rstrip(std::string_view text);
std::string_view python_strip(std::string_view text);
/// str.capitalize() without the characters whose case changes their number.
std::string python_capitalize(std::string_view text);
/// len(text).
int64_t python_length(std::string_view text);
/// text.replace(from, to).
std::string replace_all(std::string_view text, std::string_view from, std::string_view to);

}  // namespace comet::study
