// Regular expressions of tokenizer.json are Oniguruma's; Comet runs PCRE2. This writes one as the
// other, and refuses what the two engines read differently. Caller: regex_pattern.cpp.
#pragma once

#include <string>
#include <string_view>

#include "comet/base/result.h"

namespace comet::text {

/// An expression for PCRE2 (UTF, UCP, MULTILINE, newline LF) with the matches that Oniguruma finds
/// for `regex` (valid UTF-8) in its Ruby syntax. The error (kUnsupported) is a clause about the
/// expression: "has \b at byte 7, which ...".
Result<std::string> pcre2_syntax(std::string_view regex);

}  // namespace comet::text
