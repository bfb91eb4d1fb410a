#include "comet/study/rouge.h"

#include <algorithm>
#include <cstdint>
#include <unordered_map>

namespace comet::study {
namespace {

// The two characters beyond ASCII whose lower case begins with an ASCII letter: İ and the Kelvin
// sign. All others only separate words.
constexpr std::string_view kDottedI = "\xC4\xB0";
constexpr std::string_view kKelvin = "\xE2\x84\xAA";

double f1(double matches, size_t num_reference, size_t num_candidate) {
  if (num_reference == 0 || num_candidate == 0) return 0;
  const double precision = matches / static_cast<double>(num_candidate);
  const double recall = matches / static_cast<double>(num_reference);
  if (precision + recall <= 0) return 0;
  return 2 * precision * recall / (precision + recall);
}

int64_t num_common_words(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  std::unordered_map<std::string_view, int64_t> counts;
  for (const std::string& word : a) ++counts[word];
  int64_t common = 0;
  for (const std::string& word : b) {
    const auto it = counts.find(word);
    if (it == counts.end() || it->second == 0) continue;
    --it->second;
    ++common;
  }
  return common;
}

int64_t longest_common_subsequence(const std::vector<std::string>& a,
                                   const std::vector<std::string>& b) {
  std::vector<int64_t> row(b.size() + 1, 0);  // of the words of `a` so far
  for (const std::string& word : a) {
    int64_t diagonal = 0;
    for (size_t j = 0; j < b.size(); ++j) {
      const int64_t above = row[j + 1];
      row[j + 1] = word == b[j] ? diagonal + 1 : std::max(above, row[j]);
      diagonal = above;
    }
  }
  return row.back();
}

}  // namespace

std::vector<std::string> rouge_words(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  const auto end_word = [&] {
    if (!word.empty()) words.push_back(std::move(word));
    word.clear();
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const std::string_view rest = text.substr(i);
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) {
      word += c;
    } else if (c >= 'A' && c <= 'Z') {
      word += static_cast<char>(c - 'A' + 'a');
    } else if (rest.starts_with(kKelvin)) {
      word += 'k';
      i += kKelvin.size() - 1;
    } else if (rest.starts_with(kDottedI)) {  // "i" and a combining dot, which ends the word
      word += 'i';
      end_word();
      i += kDottedI.size() - 1;
    } else {
      end_word();
    }
  }
  end_word();
  return words;
}

RougeScore rouge(std::string_view reference, std::string_view candidate) {
  const auto a = rouge_words(reference);
  const auto b = rouge_words(candidate);
  return {f1(static_cast<double>(num_common_words(a, b)), a.size(), b.size()),
          f1(static_cast<double>(longest_common_subsequence(a, b)), a.size(), b.size())};
}

}  // namespace comet::study
