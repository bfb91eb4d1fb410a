// comet compare BASE CANDIDATE --prompts FILE: how alike two models of one vocabulary speak.
#include <cstdio>

#include "apps/comet/command.h"
#include "comet/base/progress.h"
#include "comet/io/file.h"
#include "comet/study/similarity.h"

namespace comet::cli {
namespace {

constexpr size_t kMaxPromptsBytes = size_t{256} << 20;

struct Options {
  std::string base;
  std::string candidate;
  std::string prompts;
  int64_t max_tokens = 128;
  int64_t limit = 0;
  std::string kv;
};

/// One prompt a line; a line that is a JSON object gives its field `prompt`.
Result<std::vector<std::string>> read_prompts(const Options& options) {
  auto text = io::read_file(options.prompts, kMaxPromptsBytes);
  if (!text) return text.error();
  std::vector<std::string> prompts;
  int64_t line_number = 0;
  for (size_t begin = 0; begin < text->size();) {
    const size_t end = std::min(text->find('\n', begin), text->size());
    std::string line = text->substr(begin, end - begin);
    begin = end + 1;
    ++line_number;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    if (line.starts_with('{')) {
      const std::string source = fmt::format("{}:{}", options.prompts, line_number);
      auto json = parse_json(line, source);
      if (!json) return json.error();
      auto prompt = JsonObject(*json, source).string("prompt");
      if (!prompt) return prompt.error();
      if (!*prompt)
        return make_error(ErrorCode::kCorrupt, "{}: the object has no field 'prompt'", source);
      line = **prompt;
    }
    prompts.push_back(line);
    if (options.limit > 0 && static_cast<int64_t>(prompts.size()) == options.limit) break;
  }
  if (prompts.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "{}: the file holds no prompt (one a line)",
                      options.prompts);
  }
  return prompts;
}

Status run_compare(const Globals& globals, const Options& options) {
  auto prompts = read_prompts(options);
  if (!prompts) return prompts.error();
  auto runtime = make_runtime(globals);
  if (!runtime) return runtime.error();
  Context& ctx = (*runtime)->context();
  auto base = open_model(options.base, ctx.caps, options.kv);
  if (!base) return base.error();
  auto candidate = open_model(options.candidate, ctx.caps, options.kv);
  if (!candidate) return candidate.error();
  std::vector<std::vector<int32_t>> encoded;
  for (const std::string& prompt : *prompts) encoded.push_back(base->tokenizer.encode(prompt));
  study::SimilarityOptions similarity_options{.max_tokens = options.max_tokens, .stop_tokens = {}};
  for (const int64_t id : base->model->config().eos_token_ids) {
    similarity_options.stop_tokens.push_back(static_cast<int32_t>(id));
  }
  Progress progress("comparing", static_cast<int64_t>(encoded.size()), "prompts", globals.quiet);
  const auto s = study::compare_models(ctx, *base->model, *candidate->model, encoded,
                                       similarity_options, [&] { progress.advance(1); });
  if (!s) return Error{s.error().code, options.prompts + ": " + s.error().message};
  if (prints_text(globals)) {
    fmt::print("{} prompts, {} tokens of {}'s continuations\n", s->num_prompts, s->num_tokens,
               options.base);
    fmt::print("  KL divergence      {:>9.5f} nats a token  ± {:.5f}\n", s->kl_mean, s->kl_stderr);
    fmt::print("  top-1 agreement    {:>9.4f}\n", s->top1_agreement);
    fmt::print("  exact match        {:>9.4f}\n", s->exact_match);
    fmt::print("  first divergence   {:>9.1f} tokens\n", s->first_divergence_mean);
  }
  return write_json_result(globals, "compare",
                           {{"exact_match", s->exact_match},
                            {"first_divergence_mean", s->first_divergence_mean},
                            {"kl_mean", s->kl_mean},
                            {"kl_stderr", s->kl_stderr},
                            {"top1_agreement", s->top1_agreement},
                            {"num_prompts", s->num_prompts},
                            {"num_tokens", s->num_tokens}});
}

}  // namespace

void add_compare(CLI::App& app, const Globals& globals, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("compare", "How alike two models speak");
  command.add_option("BASE", options->base, "Model folder of the reference")->required();
  command.add_option("CANDIDATE", options->candidate, "Model folder that is compared with it")
      ->required();
  command.add_option("--prompts", options->prompts, "Prompts: one a line, or JSONL with `prompt`")
      ->required();
  command.add_option("-n,--max-tokens", options->max_tokens, "Tokens of a continuation")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  command.add_option("--limit", options->limit, "Prompts; 0: all")->check(CLI::NonNegativeNumber);
  command.add_option("--kv", options->kv, "Cache format of both (default: each checkpoint's)");
  command.callback([&globals, &action, options] {
    action = [&globals, options] { return run_compare(globals, *options); };
  });
}

}  // namespace comet::cli
