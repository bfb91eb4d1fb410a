// WikiText's articles and the text they were before tokenization, by the rules that
// lm-evaluation-harness's task `wikitext` applies, so that its word perplexity can be compared.
#include <array>
#include <string>
#include <utility>

#include "comet/study/perplexity.h"

namespace comet::study {
namespace {

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  std::string out;
  out.reserve(text.size());
  size_t begin = 0;
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, begin)) {
    out.append(text, begin, at - begin).append(to);
    begin = at + from.size();
  }
  text = out.append(text, begin, std::string::npos);
}

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/// Strips white space inside the next pair open … close that holds no other `close`: the regular
/// expression  open \s* ([^close]*?) \s* close.
void strip_inside(std::string& text, char open, char close) {
  std::string out;
  out.reserve(text.size());
  size_t at = 0;
  while (at < text.size()) {
    if (text[at] != open) {
      out += text[at++];
      continue;
    }
    const size_t end = text.find(close, at + 1);
    if (end == std::string::npos) break;
    size_t first = at + 1;
    size_t last = end;
    while (first < last && is_space(text[first])) ++first;
    while (last > first && is_space(text[last - 1])) --last;
    out.append(1, open).append(text, first, last - first).append(1, close);
    at = end + 1;
  }
  text = out.append(text, at, std::string::npos);
}

std::string detokenize(std::string text) {
  using Pair = std::pair<std::string_view, std::string_view>;
  constexpr std::array<Pair, 10> kBefore{{{"s '", "s'"},
                                          {" @-@ ", "-"},
                                          {" @,@ ", ","},
                                          {" @.@ ", "."},
                                          {" : ", ": "},
                                          {" ; ", "; "},
                                          {" . ", ". "},
                                          {" ! ", "! "},
                                          {" ? ", "? "},
                                          {" , ", ", "}}};
  constexpr std::array<Pair, 8> kAfter{{{"= = = =", "===="},
                                        {"= = =", "==="},
                                        {"= =", "=="},
                                        {" \xC2\xB0 ", "\xC2\xB0"},
                                        {" \n", "\n"},
                                        {"\n ", "\n"},
                                        {" N ", " 1 "},
                                        {" 's", "'s"}}};
  for (const auto& [from, to] : kBefore) replace_all(text, from, to);
  strip_inside(text, '(', ')');
  strip_inside(text, '[', ']');
  strip_inside(text, '{', '}');
  strip_inside(text, '"', '"');
  strip_inside(text, '\'', '\'');
  for (const auto& [from, to] : kAfter) replace_all(text, from, to);
  return text;
}

/// " = Title = ": a heading of the first level.
bool opens_article(std::string_view line) {
  return line.starts_with(" = ") && line.ends_with(" = ") && line.size() > 6 && line[3] != '=' &&
         line[line.size() - 4] != '=';
}

}  // namespace

std::vector<Document> wikitext_documents(std::string_view text) {
  std::vector<std::string> pages;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size() - 1);
    const std::string_view line = text.substr(0, end + 1);
    text.remove_prefix(end + 1);
    const std::string_view content = line.substr(0, line.find_last_not_of('\n') + 1);
    if (pages.empty() || opens_article(content)) pages.emplace_back();
    pages.back() += line;
  }
  std::vector<Document> documents;
  for (std::string& page : pages) {
    if (page.find_first_not_of(" \n") == std::string::npos) continue;  // the blank line at the top
    documents.push_back({detokenize(page), page});
  }
  return documents;
}

}  // namespace comet::study
