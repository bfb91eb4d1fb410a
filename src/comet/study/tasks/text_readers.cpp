// Tasks whose answer is a text.
#include "comet/study/tasks/readers.h"

namespace comet::study {

Result<TaskDocument> read_lambada(const DataRow& row) {
  auto text = row.text("text");
  if (!text) return text.error();
  const size_t space = text->rfind(' ');
  TaskDocument document;
  document.text = space == std::string::npos ? "" : text->substr(0, space);
  document.target = fmt::format(" {}", text->substr(space == std::string::npos ? 0 : space + 1));
  return document;
}

Result<TaskDocument> read_gsm8k(const DataRow& row) {
  auto question = row.text("question");
  if (!question) return question.error();
  auto answer = row.text("answer");
  if (!answer) return answer.error();
  TaskDocument document;
  document.text = fmt::format("Question: {}\nAnswer:", *question);
  document.target = *std::move(answer);
  return document;
}

Result<TaskDocument> read_humaneval(const DataRow& row) {
  auto prompt = row.text("prompt");
  if (!prompt) return prompt.error();
  auto test = row.text("test");
  if (!test) return test.error();
  auto entry_point = row.text("entry_point");
  if (!entry_point) return entry_point.error();
  TaskDocument document;
  document.text = *std::move(prompt);
  document.target = fmt::format("{}\ncheck({})", *test, *entry_point);
  return document;
}

}  // namespace comet::study
