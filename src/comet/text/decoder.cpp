#include "comet/text/decoder.h"

#include <algorithm>
#include <utility>

#include "comet/text/unicode/utf8.h"

namespace comet::text {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

std::string without_blanks(std::string_view text) {
  std::string out(text);
  std::erase(out, ' ');
  return out;
}

}  // namespace

void TextDecoder::push(int32_t id, std::string& out) {
  const std::string_view bytes = vocabulary_->bytes(id);
  if (!vocabulary_->contains(id)) return;
  const bool is_first = std::exchange(is_first_, false);
  if (!rules_->byte_fallback) {
    if (is_first && rules_->first_loses_blanks) {
      const auto it = rules_->first_texts.find(id);
      emit(it == rules_->first_texts.end() ? without_blanks(bytes) : it->second, out);
      return;
    }
    pending_ += bytes;
    emit(take_complete_utf8(pending_), out);
    return;
  }
  if (vocabulary_->is_byte(id)) {
    push_run_byte(bytes, out);
    return;
  }
  end_run(out);
  emit(bytes, out);
}

void TextDecoder::finish(std::string& out) {
  if (rules_->byte_fallback) {
    end_run(out);
  } else {
    emit(replace_invalid_utf8(pending_), out);
  }
  *this = TextDecoder(*vocabulary_, *rules_, mode_);
}

void TextDecoder::push_run_byte(std::string_view byte, std::string& out) {
  pending_ += byte;
  if (mode_ == Mode::kWhole) return;
  // A replaced byte shows: no byte that is part of a character vanishes or becomes U+FFFD.
  std::string rest = pending_;
  const std::string complete = take_complete_utf8(rest);
  const bool is_good =
      complete.size() + rest.size() == pending_.size() && pending_.starts_with(complete);
  if (run_is_broken_ || !is_good) {
    break_run(out);
    return;
  }
  emit(complete, out);
  pending_ = std::move(rest);
}

void TextDecoder::break_run(std::string& out) {
  run_is_broken_ = true;
  for (size_t i = 0; i < pending_.size(); ++i) emit(kReplacement, out);
  pending_.clear();
}

void TextDecoder::end_run(std::string& out) {
  if (is_valid_utf8(pending_)) {
    emit(std::exchange(pending_, {}), out);
  } else {
    break_run(out);
  }
  run_is_broken_ = false;
}

void TextDecoder::emit(std::string_view text, std::string& out) {
  while (may_strip_ && !text.empty()) {
    if (num_stripped_ < rules_->max_strips && text.starts_with(rules_->strip)) {
      text.remove_prefix(rules_->strip.size());
      ++num_stripped_;
    } else {
      may_strip_ = false;
    }
  }
  out += text;
}

}  // namespace comet::text
