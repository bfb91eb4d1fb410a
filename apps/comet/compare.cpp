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
  bool with_texts = false;
};

/// `prompt`, or the first of MT-Bench's `turns`.
Result<std::string> prompt_of(const std::string& line, const std::string& source) {
  const auto json = parse_json(line, source);
  if (!json) return json.error();
  const JsonObject object(*json, source);
  const Json* turns = object.find("turns");
  if (turns != nullptr && turns->is_array() && !turns->empty() && turns->front().is_string()) {
    return turns->front().get<std::string>();
  }
  auto prompt = object.string("prompt");
  if (!prompt) return prompt.error();
  if (!*prompt) {
    return make_error(ErrorCode::kCorrupt, "{}: the object has no field 'prompt' (or 'turns')",
                      source);
  }
  return **prompt;
}

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
      auto prompt = prompt_of(line, fmt::format("{}:{}", options.prompts, line_number));
      if (!prompt) return prompt.error();
      line = *std::move(prompt);
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

void print_similarity(const study::Similarity& s, const std::string& base) {
  fmt::print("{} prompts, {} tokens of {}'s continuations\n", s.num_prompts, s.num_tokens, base);
  const auto line = [](const char* name, const study::SimilarityMean& mean, const char* unit) {
    fmt::print("  {:<18} {:>9.4f}  ± {:.4f} {}\n", name, mean.value, mean.std_error, unit);
  };
  line("ROUGE-1", s.rouge1, "");
  line("ROUGE-L", s.rouge_l, "");
  line("exact match", s.exact_match, "");
  line("first divergence", s.first_divergence, "tokens");
  line("KL divergence", s.kl, "nats a token");
  line("top-1 agreement", s.top1_agreement, "");
}

Json similarity_json(const study::Similarity& s) {
  Json json = {{"num_prompts", s.num_prompts}, {"num_tokens", s.num_tokens}};
  const auto put = [&json](const char* name, const char* stderr_name,
                           const study::SimilarityMean& mean) {
    json[name] = mean.value;
    json[stderr_name] = mean.std_error;
  };
  put("rouge1", "rouge1_stderr", s.rouge1);
  put("rougeL", "rougeL_stderr", s.rouge_l);
  put("exact_match", "exact_match_stderr", s.exact_match);
  put("first_divergence_mean", "first_divergence_stderr", s.first_divergence);
  put("kl_mean", "kl_stderr", s.kl);
  put("top1_agreement", "top1_agreement_stderr", s.top1_agreement);
  return json;
}

Status run_compare(const Globals& globals, const Options& options) {
  auto prompts = read_prompts(options);
  if (!prompts) return prompts.error();
  auto runtime = make_runtime(globals);
  if (!runtime) return runtime.error();
  Context& ctx = (*runtime)->context();
  auto base = open_model(ctx, options.base, options.kv);
  if (!base) return base.error();
  auto candidate = open_model(ctx, options.candidate, options.kv);
  if (!candidate) return candidate.error();
  std::vector<std::vector<int32_t>> encoded;
  for (const std::string& prompt : *prompts) encoded.push_back(base->tokenizer.encode(prompt));
  study::SimilarityOptions similarity_options{
      .max_tokens = options.max_tokens, .stop_tokens = {}, .decode = [&](const auto& ids) {
        return base->tokenizer.decode(ids, /*skip_special=*/true);
      }};
  for (const int64_t id : base->model->config().eos_token_ids) {
    similarity_options.stop_tokens.push_back(static_cast<int32_t>(id));
  }
  Progress progress("comparing", static_cast<int64_t>(encoded.size()), "prompts", globals.quiet);
  const auto s = study::compare_models(ctx, *base->model, *candidate->model, encoded,
                                       similarity_options, [&] { progress.advance(1); });
  if (!s) return Error{s.error().code, options.prompts + ": " + s.error().message};
  if (prints_text(globals)) print_similarity(*s, options.base);
  Json result = similarity_json(*s);
  if (options.with_texts) {
    result["texts"] = Json::array();
    for (size_t i = 0; i < prompts->size(); ++i) {
      result["texts"].push_back({{"prompt", (*prompts)[i]},
                                 {"base", s->texts[i].base},
                                 {"candidate", s->texts[i].candidate}});
    }
  }
  return write_json_result(globals, "compare", result);
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
  command.add_flag("--texts", options->with_texts,
                   "Prompts and continuations in --json, for tools/semantic_similarity.py");
  command.callback([&globals, &action, options] {
    action = [&globals, options] { return run_compare(globals, *options); };
  });
}

}  // namespace comet::cli
