#include "comet/text/split/pre_tokenizer.h"

#include <algorithm>
#include <ranges>

#include "comet/text/bpe/byte_level.h"
#include "comet/text/normalizer.h"

namespace comet::text {
namespace {

/// Contiguous: neighbours of the same kind are one.
void join_equal(std::vector<Span>& spans) {
  size_t num_kept = 0;
  for (const Span& span : spans) {
    if (num_kept > 0 && spans[num_kept - 1].is_match == span.is_match) {
      spans[num_kept - 1].end = span.end;
    } else {
      spans[num_kept++] = span;
    }
  }
  spans.resize(num_kept);
}

/// A match goes to the span before it, unless that is a match itself.
void merge_with_previous(std::vector<Span>& spans) {
  size_t num_kept = 0;
  bool was_match = false;
  for (const Span& span : spans) {
    if (span.is_match && !was_match && num_kept > 0) {
      spans[num_kept - 1].end = span.end;
    } else {
      spans[num_kept++] = span;
    }
    was_match = span.is_match;
  }
  spans.resize(num_kept);
}

void merge_with_next(std::vector<Span>& spans) {
  std::vector<Span> kept;  // from the last to the first
  bool was_match = false;
  for (const Span& span : std::views::reverse(spans)) {
    if (span.is_match && !was_match && !kept.empty()) {
      kept.back().begin = span.begin;
    } else {
      kept.push_back(span);
    }
    was_match = span.is_match;
  }
  spans.assign(kept.rbegin(), kept.rend());
}

void apply_behavior(SplitBehavior behavior, std::vector<Span>& spans) {
  switch (behavior) {
    case SplitBehavior::kRemoved:
      std::erase_if(spans, [](const Span& span) { return span.is_match; });
      return;
    case SplitBehavior::kIsolated:
      return;
    case SplitBehavior::kMergedWithPrevious:
      return merge_with_previous(spans);
    case SplitBehavior::kMergedWithNext:
      return merge_with_next(spans);
    case SplitBehavior::kContiguous:
      return join_equal(spans);
  }
}

struct ApplyStage {
  const std::vector<Word>& words;
  std::deque<std::string>& storage;

  std::vector<Word> operator()(const SplitStage& stage) const {
    std::vector<Word> out;
    std::vector<Span> spans;
    for (const Word& word : words) {
      spans.clear();
      stage.pattern->find_spans(word.text, spans);
      if (stage.invert) {
        for (Span& span : spans) span.is_match = !span.is_match;
      }
      apply_behavior(stage.behavior, spans);
      for (const Span& span : spans) {
        if (span.begin == span.end) continue;
        out.push_back({word.text.substr(span.begin, span.end - span.begin),
                       word.is_first && span.begin == 0});
      }
    }
    return out;
  }

  std::vector<Word> operator()(const PrefixStage& stage) const {
    std::vector<Word> out = words;
    for (Word& word : out) {
      if ((stage.only_first && !word.is_first) || word.text.starts_with(stage.prefix)) continue;
      word.text = storage.emplace_back(stage.prefix + std::string(word.text));
    }
    return out;
  }

  std::vector<Word> operator()(const ReplaceStage& stage) const {
    std::vector<Word> out = words;
    for (Word& word : out) {
      if (word.text.find(stage.from) == std::string_view::npos) continue;
      word.text = storage.emplace_back(replace_all(word.text, stage.from, stage.to));
    }
    return out;
  }

  std::vector<Word> operator()(const SpellBytesStage& stage) const {
    std::vector<Word> out = words;
    for (Word& word : out) {
      std::string respelled;
      if (stage.back) {
        respelled = spelled_bytes(word.text).value_or(std::string(word.text));
      } else {
        for (const char c : word.text) respelled += byte_spelling(static_cast<uint8_t>(c));
      }
      word.text = storage.emplace_back(std::move(respelled));
    }
    return out;
  }
};

}  // namespace

std::vector<Word> PreTokenizer::words(Word piece, std::deque<std::string>& storage) const {
  std::vector<Word> words;
  if (!piece.text.empty()) words.push_back(piece);
  for (const PreTokenizerStage& stage : stages_) {
    words = std::visit(ApplyStage{words, storage}, stage);
  }
  return words;
}

}  // namespace comet::text
