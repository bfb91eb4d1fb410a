// comet generate MODEL -p TEXT: streams a continuation.
#include <cstdio>
#include <optional>

#include "apps/comet/command.h"
#include "comet/base/clock.h"
#include "comet/base/log.h"
#include "comet/engine/engine.h"
#include "comet/io/file.h"
#include "comet/text/stream_decoder.h"

namespace comet::cli {
namespace {

constexpr size_t kMaxPromptBytes = size_t{64} << 20;
constexpr int64_t kSyntheticPromptTokens = 16;

struct Options {
  std::string model;
  std::string prompt;
  std::string file;
  int64_t max_tokens = 128;
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<int64_t> top_k;
  std::vector<std::string> stop;
  bool ignore_eos = false;
  std::string kv;
  std::string kv_memory = "auto";
  int64_t max_model_len = 0;
  SyntheticFlags synthetic;
};

/// Flags override generation_config.json, which overrides greedy decoding.
engine::SamplingParams sampling_params(const Options& options, const io::GenerationConfig& config,
                                       uint64_t seed) {
  engine::SamplingParams params;
  params.seed = seed;
  if (config.do_sample.value_or(false)) {
    params.temperature = config.temperature.value_or(1.0);
    params.top_p = config.top_p.value_or(1.0);
    params.top_k = config.top_k.value_or(0);
  }
  params.repetition_penalty = config.repetition_penalty.value_or(1.0);
  if (options.temperature) params.temperature = *options.temperature;
  if (options.top_p) params.top_p = *options.top_p;
  if (options.min_p) params.min_p = *options.min_p;
  if (options.top_k) params.top_k = *options.top_k;
  if (options.repetition_penalty) params.repetition_penalty = *options.repetition_penalty;
  return params;
}

/// Collects the answer, prints what is sure, and ends the request at a stop string.
class Answer {
 public:
  Answer(const text::Tokenizer* tokenizer, std::vector<std::string> stops, bool print)
      : stops_(std::move(stops)), print_(print) {
    if (tokenizer != nullptr) decoder_.emplace(*tokenizer, /*skip_special=*/true);
  }

  /// False once a stop string has appeared.
  bool on_token(const engine::TokenEvent& event) {
    if (tokens_.empty()) first_token_s_ = clock_.seconds();
    if (event.finish == engine::FinishReason::kError) failed_ = true;
    if (event.token >= 0) tokens_.push_back(event.token);
    const bool ended = event.finish != engine::FinishReason::kNone;
    const bool is_stop_token = event.finish == engine::FinishReason::kStop;
    if (event.finish == engine::FinishReason::kStop) finish_reason_ = "stop";
    if (decoder_ && event.token >= 0 && !is_stop_token) text_ += decoder_->push(event.token);
    if (decoder_ && ended) text_ += decoder_->flush();
    const bool stopped = !stopped_ && cut_at_stop();
    release(ended || stopped);
    stopped_ = stopped_ || stopped;
    return !stopped_;
  }

  [[nodiscard]] const std::vector<int32_t>& tokens() const { return tokens_; }
  [[nodiscard]] const std::string& text() const { return text_; }
  [[nodiscard]] const std::string& finish_reason() const { return finish_reason_; }
  [[nodiscard]] double first_token_s() const { return first_token_s_; }
  [[nodiscard]] double total_s() const { return clock_.seconds(); }
  [[nodiscard]] bool failed() const { return failed_; }

 private:
  bool cut_at_stop() {
    size_t at = std::string::npos;
    for (const std::string& stop : stops_) at = std::min(at, text_.find(stop));
    if (at == std::string::npos) return false;
    text_.resize(at);
    finish_reason_ = "stop";
    return true;
  }

  /// Prints all but a tail that may yet become a stop string.
  void release(bool all) {
    size_t held = 0;
    for (const std::string& stop : stops_) {
      for (size_t n = std::min(stop.size() - 1, text_.size()); n > held; --n) {
        if (text_.ends_with(std::string_view(stop).substr(0, n))) held = n;
      }
    }
    const size_t end = all ? text_.size() : text_.size() - held;
    if (!print_ || end <= printed_) return;
    std::fwrite(text_.data() + printed_, 1, end - printed_, stdout);
    std::fflush(stdout);
    printed_ = end;
  }

  std::vector<std::string> stops_;
  bool print_;
  std::optional<text::StreamDecoder> decoder_;
  std::vector<int32_t> tokens_;
  std::string text_;
  std::string finish_reason_ = "length";
  size_t printed_ = 0;
  bool stopped_ = false;
  bool failed_ = false;
  Stopwatch clock_;
  double first_token_s_ = 0;
};

struct Subject {
  std::unique_ptr<models::LlamaModel> model;
  std::optional<text::Tokenizer> tokenizer;
  io::GenerationConfig generation;
  std::optional<io::Checkpoint> checkpoint;  // keeps the maps alive
};

Result<Subject> open_subject(Context& ctx, const Globals& globals, const Options& options) {
  Subject subject;
  if (!options.synthetic.name.empty()) {
    auto made = make_synthetic(ctx, globals, options.synthetic, options.kv);
    if (!made) return made.error();
    subject.model = *std::move(made);
    return subject;
  }
  auto opened = open_model(options.model, ctx.caps, options.kv);
  if (!opened) return opened.error();
  auto generation = io::read_generation_config(options.model);
  if (!generation) return generation.error();
  subject.model = std::move(opened->model);
  subject.tokenizer = std::move(opened->tokenizer);
  subject.checkpoint = std::move(opened->checkpoint);
  subject.generation = *std::move(generation);
  return subject;
}

Result<engine::Request> make_request(const Globals& globals, const Options& options,
                                     const Subject& subject) {
  engine::Request request;
  request.max_tokens = options.max_tokens;
  request.sampling = sampling_params(options, subject.generation, globals.seed);
  if (!options.ignore_eos) {
    const auto& own = subject.generation.eos_token_ids;
    for (const int64_t id : own.empty() ? subject.model->config().eos_token_ids : own) {
      request.stop_tokens.push_back(static_cast<int32_t>(id));
    }
  }
  if (!subject.tokenizer) {
    for (int32_t i = 0; i < kSyntheticPromptTokens; ++i) request.prompt.push_back(i + 1);
    return request;
  }
  std::string prompt = options.prompt;
  if (!options.file.empty()) {
    auto text = io::read_file(options.file, kMaxPromptBytes);
    if (!text) return text.error();
    prompt = *std::move(text);
  }
  request.prompt = subject.tokenizer->encode(prompt);
  if (request.prompt.empty()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "-p: the prompt is empty and the model has no BOS token");
  }
  return request;
}

Status run_generate(const Globals& globals, const Options& options) {
  const Stopwatch since_start;
  auto runtime = make_runtime(globals);
  if (!runtime) return runtime.error();
  Context& ctx = (*runtime)->context();
  auto subject = open_subject(ctx, globals, options);
  if (!subject) return subject.error();
  auto request = make_request(globals, options, *subject);
  if (!request) return request.error();
  auto kv_memory = parse_bytes("--kv-memory", options.kv_memory);
  if (!kv_memory) return kv_memory.error();
  engine::EngineOptions engine_options;
  engine_options.limits.max_seqs = 1;
  engine_options.kv_memory_bytes = *kv_memory;
  engine_options.max_model_len = options.max_model_len;
  auto engine = engine::Engine::create(ctx, *subject->model, engine_options);
  if (!engine) return engine.error();
  const double load_s = since_start.seconds();

  const auto num_prompt_tokens = static_cast<int64_t>(request->prompt.size());
  Answer answer(subject->tokenizer ? &*subject->tokenizer : nullptr, options.stop,
                prints_text(globals));
  request->on_token = [&](const engine::TokenEvent& event) { return answer.on_token(event); };
  auto id = (*engine)->submit(*std::move(request));
  if (!id) return id.error();
  while ((*engine)->step()) {}
  if (answer.failed()) {
    return make_error(ErrorCode::kCorrupt, "{}: the model's activations became NaN or infinite",
                      options.model);
  }
  const auto num_tokens = static_cast<int64_t>(answer.tokens().size());
  const double total_s = answer.total_s();
  const double decode_s = total_s - answer.first_token_s();
  const double rate = num_tokens > 1 ? static_cast<double>(num_tokens - 1) / decode_s : 0;
  if (prints_text(globals)) fmt::print("\n");
  log_info("{} prompt tokens in {:.0f} ms, {} tokens at {:.1f} tokens/s", num_prompt_tokens,
           answer.first_token_s() * 1e3, num_tokens, rate);
  return write_json_result(globals, "generate",
                           {{"tokens", answer.tokens()},
                            {"text", answer.text()},
                            {"finish_reason", answer.finish_reason()},
                            {"num_prompt_tokens", num_prompt_tokens},
                            {"timings",
                             {{"load_ms", load_s * 1e3},
                              {"ttft_ms", answer.first_token_s() * 1e3},
                              {"total_ms", total_s * 1e3},
                              {"decode_tokens_per_s", rate}}}});
}

}  // namespace

void add_generate(CLI::App& app, const Globals& globals, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("generate", "Continue a text");
  auto* model = command.add_option("MODEL", options->model, "Model folder");
  auto* prompt = command.add_option("-p,--prompt", options->prompt, "The prompt");
  command.add_option("-f,--file", options->file, "Read the prompt from a file")->excludes(prompt);
  command.add_option("-n,--max-tokens", options->max_tokens, "Tokens to generate at most")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30))
      ->capture_default_str();
  command.add_option("--temperature", options->temperature, "0 is greedy")
      ->check(CLI::Range(0.0, 100.0));
  command.add_option("--top-k", options->top_k, "Keep the k likeliest tokens; 0: all")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--top-p", options->top_p, "Keep the likeliest tokens of this mass")
      ->check(CLI::Range(0.0, 1.0));
  command.add_option("--min-p", options->min_p, "Drop tokens below this share of the likeliest")
      ->check(CLI::Range(0.0, 1.0));
  command.add_option("--repetition-penalty", options->repetition_penalty, "1 is off")
      ->check(CLI::Range(0.01, 100.0));
  command.add_option("--stop", options->stop, "End before this text (repeatable)")
      ->allow_extra_args(false);
  command.add_flag("--ignore-eos", options->ignore_eos, "Go on after an end-of-text token");
  command.add_option("--kv", options->kv,
                     "Cache format: kv16, kv8 or kv4 (default: the checkpoint's)");
  command.add_option("--kv-memory", options->kv_memory, "Memory for the cache")
      ->capture_default_str();
  command.add_option("--max-model-len", options->max_model_len,
                     "Longest prompt and answer; 0: what fits");
  add_synthetic_flags(command, options->synthetic);
  command.callback([&globals, &action, options, model, &command] {
    if (model->count() + command.get_option("--synthetic")->count() != 1) {
      throw CLI::ValidationError("generate", "give a MODEL folder or --synthetic NAME");
    }
    if (model->count() == 1 &&
        command.get_option("--prompt")->count() + command.get_option("--file")->count() != 1) {
      throw CLI::ValidationError("generate", "give a prompt with -p TEXT or -f FILE");
    }
    for (const std::string& stop : options->stop) {
      if (stop.empty())
        throw CLI::ValidationError("--stop", "an empty stop text would end every answer");
    }
    action = [&globals, options] { return run_generate(globals, *options); };
  });
}

}  // namespace comet::cli
