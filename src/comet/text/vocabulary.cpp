#include "comet/text/vocabulary.h"

#include <algorithm>

#include "comet/text/unicode/printable.h"

namespace comet::text {

Result<Vocabulary> Vocabulary::build(std::vector<VocabularyEntry> entries,
                                     std::string_view source) {
  std::sort(entries.begin(), entries.end(),
            [](const VocabularyEntry& a, const VocabularyEntry& b) { return a.id < b.id; });
  Vocabulary vocabulary;
  const VocabularyEntry* previous = nullptr;
  for (const VocabularyEntry& entry : entries) {
    COMET_CHECK(entry.id >= 0 && entry.id < kMaxVocabSize, "id {}", entry.id);
    if (previous != nullptr && previous->id == entry.id) {
      return make_error(
          ErrorCode::kCorrupt,
          "{}: the tokens '{}' and '{}' both have the id {}; each token needs its own", source,
          printable(previous->spelling), printable(entry.spelling), entry.id);
    }
    if (!vocabulary.ids_.emplace(entry.spelling, entry.id).second) {
      return make_error(ErrorCode::kCorrupt,
                        "{}: the token '{}' has two ids, {} and {}; it needs exactly one", source,
                        printable(entry.spelling), vocabulary.ids_[entry.spelling], entry.id);
    }
    // Holes end where the token before them ends.
    const auto end = static_cast<uint32_t>(vocabulary.all_bytes_.size());
    vocabulary.byte_ends_.resize(static_cast<size_t>(entry.id) + 1, end);
    vocabulary.all_bytes_ += entry.bytes;
    vocabulary.byte_ends_.push_back(static_cast<uint32_t>(vocabulary.all_bytes_.size()));
    vocabulary.flags_.resize(static_cast<size_t>(entry.id) + 1);
    vocabulary.flags_.back() = static_cast<uint8_t>(kPresent | (entry.special ? kSpecial : 0) |
                                                    (entry.is_byte ? kByte : 0));
    previous = &entry;
  }
  return vocabulary;
}

std::optional<int32_t> Vocabulary::find(std::string_view spelling) const {
  const auto it = ids_.find(spelling);
  return it == ids_.end() ? std::nullopt : std::optional<int32_t>(it->second);
}

std::string_view Vocabulary::bytes(int32_t id) const {
  if (id < 0 || id >= size()) return {};
  const uint32_t begin = byte_ends_[static_cast<size_t>(id)];
  const uint32_t end = byte_ends_[static_cast<size_t>(id) + 1];
  return std::string_view(all_bytes_).substr(begin, end - begin);
}

bool Vocabulary::is_special(int32_t id) const { return has(id, kSpecial); }

bool Vocabulary::is_byte(int32_t id) const { return has(id, kByte); }

bool Vocabulary::contains(int32_t id) const { return has(id, kPresent); }

}  // namespace comet::text
