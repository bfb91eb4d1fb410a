#include "comet/study/tasks/answer_journal.h"

#include <filesystem>

namespace comet::study {
namespace {

constexpr size_t kMaxJournalBytes = size_t{1} << 30;
constexpr std::string_view kFirstLine = R"({"comet_answers":1})";

Status write_line(io::OutputFile& file, std::string line) {
  line += '\n';
  return file.write(std::as_bytes(std::span(line)));
}

}  // namespace

void KeyHash::add(std::string_view bytes) {
  hash_.add(bytes);
  add(static_cast<int64_t>(bytes.size()));
}

void KeyHash::add(int64_t number) { hash_.add_number(static_cast<uint64_t>(number)); }

Result<std::unique_ptr<AnswerJournal>> AnswerJournal::open(const std::string& path) {
  if (!std::filesystem::exists(path)) {
    auto file = io::OutputFile::create(path);
    if (!file) return file.error();
    if (const Status written = write_line(*file, std::string(kFirstLine)); !written) {
      return written.error();
    }
    return std::unique_ptr<AnswerJournal>(new AnswerJournal(*std::move(file)));
  }
  auto text = io::read_file(path, kMaxJournalBytes);
  if (!text) return text.error();
  const bool is_begun = kFirstLine.starts_with(*text);  // killed in its first line
  if (!is_begun && !text->starts_with(std::string(kFirstLine) + "\n")) {
    return make_error(
        ErrorCode::kCorrupt,
        "{}: not a file of answers that `comet eval --resume` wrote; name another one", path);
  }
  std::map<std::string, Json, std::less<>> blocks;
  size_t begin = is_begun ? 0 : kFirstLine.size() + 1;
  int64_t line_number = 2;
  for (size_t end = text->find('\n', begin); end != std::string::npos && !is_begun;
       end = text->find('\n', begin), ++line_number) {
    const std::string source = fmt::format("{}:{}", path, line_number);
    auto line = parse_json(std::string_view(*text).substr(begin, end - begin), source);
    if (!line) return line.error();
    if (!line->is_object() || !line->contains("key") || !(*line)["key"].is_string() ||
        !line->contains("answers")) {
      return make_error(ErrorCode::kCorrupt, "{}: expected a key and answers; delete the file",
                        source);
    }
    blocks[(*line)["key"].get<std::string>()] = std::move((*line)["answers"]);
    begin = end + 1;
  }
  auto file = io::OutputFile::continue_at(path, begin);
  if (!file) return file.error();
  if (is_begun) {
    if (const Status written = write_line(*file, std::string(kFirstLine)); !written) {
      return written.error();
    }
  }
  std::unique_ptr<AnswerJournal> journal(new AnswerJournal(*std::move(file)));
  journal->blocks_ = std::move(blocks);
  return journal;
}

const Json* AnswerJournal::find(const std::string& key) const {
  const auto at = blocks_.find(key);
  return at == blocks_.end() ? nullptr : &at->second;
}

Status AnswerJournal::add(const std::string& key, Json answers) {
  Json line = {{"key", key}, {"answers", std::move(answers)}};
  if (const Status written = write_line(file_, line.dump()); !written) return written;
  blocks_[key] = std::move(line["answers"]);
  return {};
}

}  // namespace comet::study
