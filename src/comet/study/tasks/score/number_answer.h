// The number that a worked solution ends with, by the two filters of lm-evaluation-harness's gsm8k,
// and the comparison of its exact_match. Caller: the task runner.
#pragma once

#include <string>
#include <string_view>

namespace comet::study {

/// strict-match: behind the first "#### ", re (\-?[0-9\.\,]+); "[invalid]" when there is none.
std::string strict_number(std::string_view text);
/// flexible-extract: the last match of (-?[$0-9.,]{2,})|(-?[0-9]+); "[invalid]" when there is none.
std::string flexible_number(std::string_view text);
/// Equal once "," and "$", all up to the last "#### " and a final "." are gone from both, in lower
/// case.
bool equal_numbers(std::string_view prediction, std::string_view solution);

}  // namespace comet::study
