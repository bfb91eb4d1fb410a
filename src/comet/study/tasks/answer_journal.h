// AnswerJournal: what a model has answered so far, in a file that survives kill -9, so that a rerun
// asks only for the rest. One JSON line a block, under a key that covers model, task and every
// token: answers to other questions are never taken. Callers: eval (opens it), the task runner.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "comet/base/hash.h"
#include "comet/base/json.h"
#include "comet/io/file.h"

namespace comet::study {

/// Of the parts of a key, texts with their lengths.
class KeyHash {
 public:
  void add(std::string_view bytes);
  void add(int64_t number);
  [[nodiscard]] std::string text() const { return hash_.text(); }

 private:
  Fnv1a hash_;
};

class AnswerJournal {
 public:
  /// Reads the file, or begins it. A last line without its end is what a killed run left: it goes.
  /// A file that is something else is left alone: kCorrupt.
  static Result<std::unique_ptr<AnswerJournal>> open(const std::string& path);

  /// nullptr when nothing was kept under the key.
  [[nodiscard]] const Json* find(const std::string& key) const;
  /// Written before it returns.
  Status add(const std::string& key, Json answers);

 private:
  explicit AnswerJournal(io::OutputFile file) : file_(std::move(file)) {}

  io::OutputFile file_;
  std::map<std::string, Json, std::less<>> blocks_;
};

}  // namespace comet::study
