#include "comet/study/tasks/score/number_answer.h"

#include <algorithm>

#include "comet/study/tasks/data/python_text.h"

namespace comet::study {
namespace {

constexpr std::string_view kMark = "#### ";
constexpr std::string_view kInvalid = "[invalid]";
constexpr std::string_view kDigits = "0123456789";

/// End of the run of `allowed` that begins at `begin`.
size_t run_end(std::string_view text, size_t begin, std::string_view allowed) {
  return std::min(text.find_first_not_of(allowed, begin), text.size());
}

/// re.sub of ",", "\$", "(?s).*#### " and "\.$", one after the other.
std::string without_marks(std::string_view text) {
  std::string out = replace_all(replace_all(text, ",", ""), "$", "");
  if (const size_t at = out.rfind(kMark); at != std::string::npos) out.erase(0, at + kMark.size());
  if (out.ends_with(".")) {
    out.pop_back();
  } else if (out.ends_with(".\n")) {  // Python's $ also stands before a final line break
    out.erase(out.size() - 2, 1);
  }
  std::ranges::transform(out, out.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  });
  return out;
}

}  // namespace

std::string strict_number(std::string_view text) {
  for (size_t at = text.find(kMark); at != std::string_view::npos; at = text.find(kMark, at + 1)) {
    const size_t begin = at + kMark.size();
    const size_t first = begin + (begin < text.size() && text[begin] == '-' ? 1 : 0);
    const size_t end = run_end(text, first, "0123456789.,");
    if (end > first) return std::string(text.substr(begin, end - begin));
  }
  return std::string(kInvalid);
}

std::string flexible_number(std::string_view text) {
  std::string_view found = kInvalid;
  for (size_t at = 0; at < text.size();) {
    const size_t first = at + (text[at] == '-' ? 1 : 0);
    size_t end = run_end(text, first, "$0123456789.,");
    if (end - first < 2) end = run_end(text, first, kDigits);
    if (end > first) {
      found = text.substr(at, end - at);
      at = end;
    } else {
      ++at;
    }
  }
  return std::string(found);
}

bool equal_numbers(std::string_view prediction, std::string_view solution) {
  return without_marks(prediction) == without_marks(solution);
}

}  // namespace comet::study
