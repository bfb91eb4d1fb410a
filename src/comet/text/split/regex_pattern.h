// A split pattern that runs in PCRE2, for expressions without a scanner of their own. Its cost is
// bounded whatever the file holds. Caller: make_regex_pattern.
#pragma once

#include <string_view>

#include "comet/base/result.h"
#include "comet/text/split/split_pattern.h"

namespace comet::text {

/// Refuses (kUnsupported) an expression that is too long or nested, that PCRE2 does not compile, or
/// that Oniguruma might read differently. Matching is bounded by a budget linear in the text: where
/// an expression exhausts it, the rest of the text counts as one stretch without a match.
Result<SplitPatternPtr> compile_regex_pattern(std::string_view regex, std::string_view where);

}  // namespace comet::text
