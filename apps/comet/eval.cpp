// comet eval MODEL --tasks LIST: perplexity of text:PATH and wikitext2.
#include <cstdio>
#include <optional>

#include "apps/comet/command.h"
#include "comet/base/progress.h"
#include "comet/io/file.h"
#include "comet/study/perplexity.h"

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
};

struct Task {
  std::string name;  // as asked for
  std::string path;
  bool wikitext;
};

Result<std::vector<Task>> parse_tasks(const Options& options) {
  std::vector<Task> tasks;
  std::string rest = options.tasks + ",";
  while (!rest.empty()) {
    const std::string name = rest.substr(0, rest.find(','));
    rest.erase(0, name.size() + 1);
    if (name.empty()) continue;
    if (name.starts_with("text:")) {
      tasks.push_back({name, name.substr(5), false});
    } else if (name == "wikitext" || name == "wikitext2") {
      if (options.data.empty()) {
        return make_error(
            ErrorCode::kInvalidArgument,
            "--tasks {}: needs --data DIR (the folder that holds wikitext2/wiki.test.raw)", name);
      }
      tasks.push_back({"wikitext2", options.data + "/wikitext2/wiki.test.raw", true});
    } else {
      return make_error(ErrorCode::kInvalidArgument,
                        "--tasks '{}': expected text:PATH, wikitext or wikitext2", name);
    }
  }
  if (tasks.empty()) return make_error(ErrorCode::kInvalidArgument, "--tasks: the list is empty");
  return tasks;
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

Result<Json> run_task(Context& ctx, const Globals& globals, const Options& options,
                      const OpenedModel& opened, const models::LlamaModel* base, const Task& task) {
  auto text = io::read_file(task.path, kMaxTextBytes);
  if (!text) return text.error();
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
  if (task.wikitext) {
    auto paper =
        study::paper_perplexity(ctx, *opened.model, opened.tokenizer, *text, options.num_tokens);
    if (!paper) return paper.error();
    result["paper_perplexity"] = *paper;
  }
  return result;
}

void print_result(const std::string& task, const Json& result) {
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

Status run_eval(const Globals& globals, const Options& options) {
  auto tasks = parse_tasks(options);
  if (!tasks) return tasks.error();
  auto runtime = make_runtime(globals);
  if (!runtime) return runtime.error();
  Context& ctx = (*runtime)->context();
  auto opened = open_model(options.model, ctx.caps, options.kv);
  if (!opened) return opened.error();
  std::optional<OpenedModel> base;
  if (!options.base.empty()) {
    auto opened_base = open_model(options.base, ctx.caps, "");
    if (!opened_base) return opened_base.error();
    base.emplace(*std::move(opened_base));
  }
  if (options.max_length > opened->model->config().max_position_embeddings) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--max-length {}: the model's context is {} tokens", options.max_length,
                      opened->model->config().max_position_embeddings);
  }
  Json results = Json::object();
  for (const Task& task : *tasks) {
    auto result =
        run_task(ctx, globals, options, *opened, base ? base->model.get() : nullptr, task);
    if (!result) return result.error();
    results[task.name] = *result;
    if (prints_text(globals)) print_result(task.name, *result);
  }
  return write_json_result(globals, "eval", {{"tasks", results}});
}

}  // namespace

void add_eval(CLI::App& app, const Globals& globals, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("eval", "Measure a model's quality");
  command.add_option("MODEL", options->model, "Model folder")->required();
  command.add_option("--tasks", options->tasks, "Comma-separated: text:PATH, wikitext2")
      ->required();
  command.add_option("--data", options->data, "Folder with the tasks' data files");
  command.add_option("--limit", options->limit, "Documents a task; 0: all")
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--max-length", options->max_length,
                  "Tokens of a window (default: context, at most 2048)")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 24));
  command.add_option("--num-tokens", options->num_tokens, "Stop after so many tokens; 0: all")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--kv", options->kv,
                     "Cache format: kv16, kv8 or kv4 (default: the checkpoint's)");
  command.add_option("--base", options->base,
                     "Also KL divergence and top-1 agreement against this model, same tokens");
  command.callback([&globals, &action, options] {
    action = [&globals, options] { return run_eval(globals, *options); };
  });
}

}  // namespace comet::cli
