// Files to documents, and the few-shot examples in front of each.
#include <algorithm>
#include <filesystem>

#include "comet/study/tasks/data/python_random.h"
#include "comet/study/tasks/task.h"

namespace comet::study {
namespace {

constexpr uint32_t kShotSeed = 1234;  // lm-eval's default for few-shot sampling

std::string with_subject(std::string_view pattern, std::string_view subject) {
  const size_t at = pattern.find("{}");
  if (at == std::string_view::npos) return std::string(pattern);
  return fmt::format("{}{}{}", pattern.substr(0, at), subject, pattern.substr(at + 2));
}

/// The first of `files` that exists; kNotFound names them all.
Result<std::string> find_file(const Task& task, const std::array<std::string_view, 3>& files,
                              const std::string& directory, std::string_view subject) {
  std::string expected;
  for (const std::string_view file : files) {
    if (file.empty()) continue;
    std::string path = fmt::format("{}/{}", directory, with_subject(file, subject));
    if (std::filesystem::exists(path)) return path;
    expected += (expected.empty() ? "" : " or ") + path;
  }
  return make_error(ErrorCode::kNotFound, "{}: no data file; expected {}", task.name, expected);
}

Result<std::vector<TaskDocument>> read_documents(const Task& task, const std::string& path) {
  auto rows = read_rows(path);
  if (!rows) return rows.error();
  std::vector<TaskDocument> documents;
  for (const DataRow& row : *rows) {
    auto document = task.read(row);
    if (!document) return document.error();
    document->source = row.source();
    documents.push_back(*std::move(document));
  }
  return documents;
}

/// A document with its answer.
std::string example_text(const Task& task, const TaskDocument& document) {
  if (task.choices_are_contexts) {
    return fmt::format("{} {}\n\n", document.choices[document.gold], document.target);
  }
  const std::string& answer =
      document.choices.empty() ? document.target : document.choices[document.gold];
  return fmt::format("{} {}\n\n", document.text, answer);
}

/// lm-eval's ContextSampler: one generator goes on from document to document.
void add_shots(const Task& task, const std::vector<TaskDocument>& examples, int64_t num_shots,
               std::vector<TaskDocument>& documents) {
  PythonRandom random(kShotSeed);
  const auto population = static_cast<int64_t>(examples.size());
  for (TaskDocument& document : documents) {
    std::vector<int64_t> drawn;
    if (task.takes_first_shots) {
      for (int64_t i = 0; i < num_shots; ++i) drawn.push_back(i);
    } else {
      drawn = random.sample(population, num_shots + (task.draws_one_shot_more ? 1 : 0));
      drawn.resize(num_shots);
    }
    for (const int64_t i : drawn) document.prefix += example_text(task, examples[i]);
  }
}

Result<TaskPart> load_part(const Task& task, const TaskData& data, std::string_view subject,
                           int64_t num_shots) {
  TaskPart part;
  part.name = subject;
  auto path = find_file(task, task.files, data.directory, subject);
  if (!path) return path.error();
  auto documents = read_documents(task, *path);
  if (!documents) return documents.error();
  part.documents = *std::move(documents);
  if (data.limit > 0 && data.limit < static_cast<int64_t>(part.documents.size())) {
    part.documents.resize(data.limit);
  }
  if (!subject.empty()) {
    std::string about(subject);
    std::replace(about.begin(), about.end(), '_', ' ');
    for (TaskDocument& document : part.documents) {
      document.prefix = fmt::format(
          "The following are multiple choice questions (with answers) about {}.\n\n", about);
    }
  }
  if (num_shots == 0) return part;
  auto shot_path = find_file(task, task.shot_files, data.directory, subject);
  if (!shot_path) {
    return Error{ErrorCode::kNotFound,
                 fmt::format("--shots {}: {}", num_shots, shot_path.error().message)};
  }
  auto examples = read_documents(task, *shot_path);
  if (!examples) return examples.error();
  const int64_t needed = num_shots + (task.draws_one_shot_more ? 1 : 0);
  if (needed > static_cast<int64_t>(examples->size())) {
    return make_error(ErrorCode::kInvalidArgument, "--shots {}: {} holds {} examples; {} needs {}",
                      num_shots, *shot_path, examples->size(), task.name, needed);
  }
  add_shots(task, *examples, num_shots, part.documents);
  return part;
}

/// Subjects that the folder holds, in order: what stands for "{}" in the pattern's file names.
Result<std::vector<std::string>> find_subjects(const Task& task, const std::string& directory) {
  std::vector<std::string> subjects;
  for (const std::string_view pattern : task.files) {
    const std::filesystem::path path(fmt::format("{}/{}", directory, pattern));
    const std::string name = path.filename().string();
    const std::string suffix = name.substr(name.find("{}") + 2);
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(path.parent_path(), ignored)) {
      const std::string file = entry.path().filename().string();
      if (file.size() > suffix.size() && file.ends_with(suffix)) {
        subjects.push_back(file.substr(0, file.size() - suffix.size()));
      }
    }
    if (!subjects.empty()) break;
  }
  if (subjects.empty()) {
    return make_error(ErrorCode::kNotFound, "{}: no data file; expected {}/{} for each subject",
                      task.name, directory, with_subject(task.files[0], "SUBJECT"));
  }
  std::sort(subjects.begin(), subjects.end());
  return subjects;
}

}  // namespace

Result<LoadedTask> load_task(const Task& task, const TaskData& data) {
  LoadedTask loaded;
  loaded.task = &task;
  loaded.num_shots = data.num_shots < 0 ? task.default_shots : data.num_shots;
  if (loaded.num_shots > 0 && task.shot_files[0].empty()) {
    return make_error(ErrorCode::kInvalidArgument, "--shots {}: {} has no few-shot examples; use 0",
                      loaded.num_shots, task.name);
  }
  std::vector<std::string> subjects{""};
  if (task.files[0].find("{}") != std::string_view::npos) {
    auto found = find_subjects(task, data.directory);
    if (!found) return found.error();
    subjects = *std::move(found);
  }
  for (const std::string& subject : subjects) {
    auto part = load_part(task, data, subject, loaded.num_shots);
    if (!part) return part.error();
    loaded.parts.push_back(*std::move(part));
  }
  return loaded;
}

}  // namespace comet::study
