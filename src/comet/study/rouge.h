// ROUGE-1 and ROUGE-L F1 of two texts, equal to the Python package rouge_score's without its
// stemmer (Lin 2004): lower case, words of [a-z0-9]+, unigram counts and the longest common
// subsequence. Caller: similarity. Its goldens are tests/data/rouge.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace comet::study {

struct RougeScore {
  double rouge1 = 0;
  double rouge_l = 0;
};
/// Symmetric; 0 where either text has no word. Time grows with the product of the lengths.
RougeScore rouge(std::string_view reference, std::string_view candidate);

/// The words that ROUGE counts.
std::vector<std::string> rouge_words(std::string_view text);

}  // namespace comet::study
