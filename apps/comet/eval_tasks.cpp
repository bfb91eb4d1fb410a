#include "apps/comet/eval_tasks.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <vector>

#include "comet/base/progress.h"
#include "comet/io/file.h"

namespace comet::cli {
namespace {

constexpr size_t kMaxKeyBytes = size_t{256} << 20;

/// null where a figure has no standard error.
Json number_json(double value) { return std::isfinite(value) ? Json(value) : Json(); }

/// 0 and 1 as such: most figures of a document are.
Json values_json(const std::vector<double>& values) {
  Json list = Json::array();
  for (const double value : values) {
    if (value == 0.0 || value == 1.0) {
      list.push_back(static_cast<int>(value));
    } else {
      list.push_back(number_json(value));
    }
  }
  return list;
}

/// [[log-probability, greedy], …] of a document's continuations, or the text.
Json answer_json(const study::Answer& answer) {
  if (answer.likelihoods.empty()) return answer.text;
  Json list = Json::array();
  for (const study::Likelihood& one : answer.likelihoods) {
    list.push_back({number_json(one.log_prob), one.is_greedy});
  }
  return list;
}

Json result_json(const study::TaskResult& result, bool with_answers) {
  Json json = {{"num_samples", result.num_samples}};
  for (const study::TaskMetric& metric : result.metrics) {
    json[metric.name] = number_json(metric.value);
    json[metric.name + "_stderr"] = number_json(metric.std_error);
    if (!metric.values.empty()) json["samples"][metric.name] = values_json(metric.values);
  }
  for (const study::Answer& answer : result.answers) {
    if (with_answers) json["samples"]["answers"].push_back(answer_json(answer));
  }
  for (const study::TaskResult& part : result.parts)
    json["subjects"][part.name] = result_json(part, with_answers);
  return json;
}

}  // namespace

void add_task_flags(CLI::App& command, TaskFlags& flags) {
  command
      .add_option("--shots", flags.num_shots,
                  "Few-shot examples before each question (default: 5 for gsm8k, else 0)")
      ->check(CLI::Range(int64_t{0}, int64_t{1000}));
  command.add_flag("--add-bos", flags.add_bos,
                   "Put the tokenizer's first token before prompts (lm-eval's add_bos_token)");
  command.add_option("--resume", flags.resume,
                     "Keep answers in this file, and take from it those of an earlier run");
  command.add_flag("--log-samples", flags.log_samples,
                   "Every answer in the --json result: log-probabilities or text");
  command.add_flag("--allow-code-execution", flags.run_programs,
                   "humaneval: run the programs that the model writes, in a sandbox");
  command.add_flag("--allow-unisolated-code", flags.without_namespaces,
                   "Run them even where the system permits no isolation (network, files)");
}

std::string model_key(const std::string& directory, const Context& ctx,
                      const std::string& kv_name) {
  study::KeyHash key;
  std::vector<std::filesystem::path> files;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(directory, ignored)) {
    files.push_back(entry.path());
  }
  std::ranges::sort(files);
  for (const std::filesystem::path& file : files) {
    if (file.filename() == "config.json" || file.filename() == "tokenizer.json") {
      key.add(io::read_file(file.string(), kMaxKeyBytes).value());
    } else if (file.extension() == ".safetensors") {
      key.add(file.filename().string());
      key.add(static_cast<int64_t>(std::filesystem::file_size(file, ignored)));
      const auto written = std::filesystem::last_write_time(file, ignored);
      key.add(static_cast<int64_t>(written.time_since_epoch().count()));
    }
  }
  key.add(kv_name);
  key.add(static_cast<int64_t>(ctx.caps.cpu_isa));  // kernels differ in the last bits
  key.add(version_text());
  return key.text();
}

Result<Json> run_accuracy_task(const TaskRun& run, const study::LoadedTask& loaded) {
  study::RunOptions options = run.options;
  std::unique_ptr<Progress> progress;
  int64_t num_shown = 0;
  options.on_tokens = [&](int64_t num_done, int64_t num_all) {
    if (progress == nullptr) {
      progress =
          std::make_unique<Progress>(std::string(loaded.task->name), num_all, "tokens", run.quiet);
    }
    progress->advance(num_done - num_shown);
    num_shown = num_done;
  };
  auto result = study::run_task(run.ctx, *run.opened.model, run.opened.tokenizer, loaded, options);
  if (!result) return result.error();
  Json json = result_json(*result, run.log_samples);
  json["num_shots"] = loaded.num_shots;
  return json;
}

void print_accuracy(const std::string& task, const Json& result) {
  fmt::print("{}\n", task);
  for (const char* field : {"acc", "acc_norm", "acc_bytes", "perplexity", "exact_match",
                            "exact_match_flexible", "pass@1"}) {
    if (!result.contains(field)) continue;
    fmt::print("  {:<20} {:>10.4f}", field, result[field].get<double>());
    const Json& std_error = result[std::string(field) + "_stderr"];
    if (!std_error.is_null()) fmt::print("  ± {:.4f}", std_error.get<double>());
    fmt::print("\n");
  }
  fmt::print("  {:<20} {:>10}\n", "num_samples", result["num_samples"].get<int64_t>());
}

}  // namespace comet::cli
