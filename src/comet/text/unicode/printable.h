// Text from a file inside an error message: bounded and on one line. Callers: the readers of
// tokenizer.json.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace comet::text {

/// The first `max_bytes` of `text` in whole characters, "..." where more follows; control
/// characters and bytes that are not UTF-8 are made visible.
std::string printable(std::string_view text, size_t max_bytes = 80);

}  // namespace comet::text
