// comet eval MODEL --tasks LIST: perplexity of text:PATH and wikitext2, and accuracy by
// lm-evaluation-harness's rules.
#include <algorithm>
#include <cstdio>
#include <optional>

#include "apps/comet/eval_tasks.h"
#include "comet/base/progress.h"
#include "comet/io/file.h"
#include "comet/study/perplexity.h"
#include "comet/study/tasks/code/sandbox.h"

namespace comet::cli {
namespace {

constexpr size_t kMaxTextBytes = size_t{1} << 30;

struct Options {
  std::string model;
  std::string tasks;
  std::string data;
  int64_t limit = 0;
  int64_t max_length = 0;
  int64_t num_tokens = 0;
  std::string kv;
  std::string base;
  TaskFlags task_flags;
};

struct Task {
  std::string name;  // as asked for
  std::string path;  // of a text
  bool wikitext = false;
  std::optional<study::LoadedTask> accuracy;

  [[nodiscard]] bool is_perplexity() const { return !accuracy.has_value(); }
};

Error needs_data(const std::string& name, std::string_view what) {
  return make_error(ErrorCode::kInvalidArgument,
                    "--tasks {}: needs --data DIR (the folder that holds {})", name, what);
}

Result<Task> parse_task(const std::string& name, const Options& options) {
  if (name.starts_with("text:")) return Task{name, name.substr(5), false, std::nullopt};
  if (name == "wikitext" || name == "wikitext2") {
    if (options.data.empty()) return needs_data(name, "wikitext2/wiki.test.raw");
    return Task{"wikitext2", options.data + "/wikitext2/wiki.test.raw", true, std::nullopt};
  }
  const study::Task* task = study::find_task(name);
  if (task == nullptr) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--tasks '{}': no such task; there are text:PATH, wikitext2, {}", name,
                      study::task_names());
  }
  if (options.data.empty()) return needs_data(name, task->files.front());
  if (task->kind == study::TaskKind::kProgram && !options.task_flags.run_programs) {
    return study::programs_not_allowed(task->name);
  }
  auto loaded =
      study::load_task(*task, {options.data, options.limit, options.task_flags.num_shots});
  if (!loaded) return loaded.error();
  return Task{std::string(task->name), "", false, *std::move(loaded)};
}

Result<std::vector<Task>> parse_tasks(const Options& options) {
  std::vector<Task> tasks;
  std::string rest = options.tasks + ",";
  while (!rest.empty()) {
    const std::string name = rest.substr(0, rest.find(','));
    rest.erase(0, name.size() + 1);
    if (name.empty()) continue;
    auto task = parse_task(name, options);
    if (!task) return task.error();
    tasks.push_back(*std::move(task));
  }
  if (tasks.empty()) return make_error(ErrorCode::kInvalidArgument, "--tasks: the list is empty");
  return tasks;
}

/// Flags that nothing in the list would look at.
Status check_flags(const Options& options, const std::vector<Task>& tasks) {
  const bool any_text = std::ranges::any_of(tasks, &Task::is_perplexity);
  const bool all_text = std::ranges::all_of(tasks, &Task::is_perplexity);
  const auto only = [](std::string_view flag, std::string_view kind) {
    return make_error(ErrorCode::kInvalidArgument, "{}: only for {}, and --tasks has none", flag,
                      kind);
  };
  if (!any_text && options.num_tokens > 0) return only("--num-tokens", "texts");
  if (!any_text && !options.base.empty()) return only("--base", "texts");
  if (all_text && options.task_flags.num_shots > 0) return only("--shots", "questions");
  if (all_text && options.task_flags.add_bos) return only("--add-bos", "questions");
  return {};
}

/// What paired statistics of two runs need: windows in order, the same for every model of a
/// tokenizer.
Json windows_json(const std::vector<study::WindowScore>& windows, bool with_base) {
  Json result = {{"log_prob_sum", Json::array()}, {"num_tokens", Json::array()}};
  for (const study::WindowScore& window : windows) {
    result["log_prob_sum"].push_back(window.log_prob_sum);
    result["num_tokens"].push_back(window.num_tokens);
    if (with_base) result["kl_sum"].push_back(window.kl_sum);
  }
  return result;
}

Result<Json> run_perplexity(Context& ctx, const Globals& globals, const Options& options,
                            const OpenedModel& opened, const models::LlamaModel* base,
                            const Task& task, std::string* text) {
  const std::vector<study::Document> documents =
      task.wikitext ? study::wikitext_documents(*text) : study::split_documents(*text);
  if (documents.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "{}: the file holds no text", task.path);
  }
  // About four bytes a token until the count is known: the bar's total is an estimate.
  int64_t estimate = static_cast<int64_t>(text->size()) / 4;
  if (options.num_tokens > 0) estimate = std::min(estimate, options.num_tokens);
  study::PerplexityOptions perplexity_options{options.max_length, options.num_tokens, options.limit,
                                              base};
  Progress progress(task.name, estimate, "tokens", globals.quiet);
  int64_t shown = 0;
  auto scored = study::perplexity(ctx, *opened.model, opened.tokenizer, documents,
                                  perplexity_options, [&](int64_t done) {
                                    progress.advance(done - shown);
                                    shown = done;
                                  });
  if (!scored) return Error{scored.error().code, task.path + ": " + scored.error().message};
  Json result = {{"token_perplexity", scored->token_perplexity},
                 {"token_perplexity_stderr", scored->token_perplexity_stderr},
                 {"num_tokens", scored->num_tokens},
                 {"num_documents", scored->num_documents},
                 {"windows", windows_json(scored->windows, base != nullptr)}};
  if (base != nullptr) {
    result["kl_mean"] = scored->kl_mean;
    result["kl_mean_stderr"] = scored->kl_stderr;
    result["top1_agreement"] = scored->top1_agreement;
  }
  if (scored->bits_per_byte > 0) {
    result["word_perplexity"] = scored->word_perplexity;
    result["byte_perplexity"] = scored->byte_perplexity;
    result["bits_per_byte"] = scored->bits_per_byte;
  }
  // Of the whole text; a --limit that cuts it asks for less.
  if (task.wikitext &&
      (options.limit == 0 || options.limit >= static_cast<int64_t>(documents.size()))) {
    auto paper =
        study::paper_perplexity(ctx, *opened.model, opened.tokenizer, *text, options.num_tokens);
    // A text shorter than a window has none.
    if (!paper && paper.error().code != ErrorCode::kInvalidArgument) return paper.error();
    if (paper) result["paper_perplexity"] = *paper;
  }
  return result;
}

void print_perplexity(const std::string& task, const Json& result) {
  fmt::print("{}\n", task);
  for (const char* field : {"token_perplexity", "word_perplexity", "byte_perplexity",
                            "bits_per_byte", "paper_perplexity", "kl_mean", "top1_agreement"}) {
    if (!result.contains(field)) continue;
    fmt::print("  {:<18} {:>10.4f}", field, result[field].get<double>());
    const std::string stderr_field = std::string(field) + "_stderr";
    if (result.contains(stderr_field)) fmt::print("  ± {:.4f}", result[stderr_field].get<double>());
    fmt::print("\n");
  }
  fmt::print("  {:<18} {:>10}\n", "num_tokens", result["num_tokens"].get<int64_t>());
}

/// What a perplexity depends on beside the model.
std::string perplexity_key(const Context& ctx, const Options& options, const std::string& model,
                           const Task& task, const std::string& text) {
  study::KeyHash key;
  key.add(model);
  key.add(task.wikitext ? "wikitext2" : "text");
  key.add(text);
  for (const int64_t number : {options.limit, options.max_length, options.num_tokens}) {
    key.add(number);
  }
  if (!options.base.empty()) key.add(model_key(options.base, ctx, ""));
  return key.text();
}

/// From the journal if it is there; else run, and kept there.
Result<Json> find_perplexity(const TaskRun& run, const Globals& globals, const Options& options,
                             const models::LlamaModel* base, const Task& task) {
  auto text = io::read_file(task.path, kMaxTextBytes);
  if (!text) return text.error();
  study::AnswerJournal* journal = run.options.journal;
  std::string key;
  if (journal != nullptr) {
    key = perplexity_key(run.ctx, options, run.options.model_key, task, *text);
    if (const Json* kept = journal->find(key)) return *kept;
  }
  auto result = run_perplexity(run.ctx, globals, options, run.opened, base, task, &*text);
  if (!result) return result.error();
  if (journal != nullptr) {
    if (const Status kept = journal->add(key, *result); !kept) return kept.error();
  }
  return result;
}

Result<study::RunOptions> run_options(const Context& ctx, const Options& options,
                                      study::AnswerJournal* journal) {
  auto generation = io::read_generation_config(options.model);
  if (!generation) return generation.error();
  study::RunOptions result;
  result.max_length = options.max_length;
  result.add_bos = options.task_flags.add_bos;
  result.eos_tokens.assign(generation->eos_token_ids.begin(), generation->eos_token_ids.end());
  result.run_programs = options.task_flags.run_programs;
  result.without_namespaces = options.task_flags.without_namespaces;
  result.journal = journal;
  if (journal != nullptr) result.model_key = model_key(options.model, ctx, options.kv);
  return result;
}

Status run_eval(const Globals& globals, const Options& options) {
  auto tasks = parse_tasks(options);
  if (!tasks) return tasks.error();
  if (const Status fit = check_flags(options, *tasks); !fit) return fit.error();
  auto runtime = make_runtime(globals);
  if (!runtime) return runtime.error();
  Context& ctx = (*runtime)->context();
  auto opened = open_model(ctx, options.model, options.kv);
  if (!opened) return opened.error();
  std::optional<OpenedModel> base;
  if (!options.base.empty()) {
    auto opened_base = open_model(ctx, options.base, "");
    if (!opened_base) return opened_base.error();
    base.emplace(*std::move(opened_base));
  }
  if (options.max_length > opened->model->config().max_position_embeddings) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--max-length {}: the model's context is {} tokens", options.max_length,
                      opened->model->config().max_position_embeddings);
  }
  std::unique_ptr<study::AnswerJournal> journal;
  if (!options.task_flags.resume.empty()) {
    auto opened_journal = study::AnswerJournal::open(options.task_flags.resume);
    if (!opened_journal) return opened_journal.error();
    journal = *std::move(opened_journal);
  }
  auto task_options = run_options(ctx, options, journal.get());
  if (!task_options) return task_options.error();
  const TaskRun run{ctx, *opened, *task_options, globals.quiet, options.task_flags.log_samples};
  Json results = Json::object();
  for (const Task& task : *tasks) {
    auto result = task.is_perplexity() ? find_perplexity(run, globals, options,
                                                         base ? base->model.get() : nullptr, task)
                                       : run_accuracy_task(run, *task.accuracy);
    if (!result) return result.error();
    results[task.name] = *result;
    if (!prints_text(globals)) continue;
    if (task.is_perplexity()) {
      print_perplexity(task.name, *result);
    } else {
      print_accuracy(task.name, *result);
    }
  }
  return write_json_result(globals, "eval", {{"tasks", results}});
}

}  // namespace

void add_eval(CLI::App& app, const Globals& globals, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("eval", "Measure a model's quality");
  command.add_option("MODEL", options->model, "Model folder")->required();
  command
      .add_option("--tasks", options->tasks,
                  "Comma-separated: text:PATH, wikitext2, " + study::task_names())
      ->required();
  command.add_option("--data", options->data, "Folder with the tasks' data files");
  command
      .add_option("--limit", options->limit,
                  "The first N documents of each task, of each subject of mmlu (default: all)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  command
      .add_option("--max-length", options->max_length,
                  "Tokens of a window, or of prompt and answer (default: context, at most 2048)")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 24));
  command.add_option("--num-tokens", options->num_tokens, "Stop after so many tokens; 0: all")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--kv", options->kv,
                     "Cache format: kv16, kv8 or kv4 (default: the checkpoint's)");
  command.add_option("--base", options->base,
                     "Also KL divergence and top-1 agreement against this model, same tokens");
  add_task_flags(command, options->task_flags);
  command.callback([&globals, &action, options] {
    action = [&globals, options] { return run_eval(globals, *options); };
  });
}

}  // namespace comet::cli
