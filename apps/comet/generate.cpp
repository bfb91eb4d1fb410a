// comet generate MODEL -p TEXT: streams a continuation.
#include <cstdio>
#include <optional>

#include "apps/comet/chat_prompt.h"
#include "apps/comet/command.h"
#include "apps/comet/sampling_flags.h"
#include "comet/base/clock.h"
#include "comet/base/log.h"
#include "comet/engine/engine.h"
#include "comet/io/file.h"

namespace comet::cli {
namespace {

constexpr size_t kMaxPromptBytes = size_t{64} << 20;
constexpr int64_t kSyntheticPromptTokens = 16;

struct Options {
  std::string model;
  std::string prompt;
  std::string file;
  int64_t max_tokens = 128;
  SamplingFlags sampling;
  bool is_chat = false;
  std::string template_file;
  bool ignore_eos = false;
  std::string kv;
  std::string kv_memory = "auto";
  int64_t max_model_len = 0;
  SyntheticFlags synthetic;
};

/// Collects the answer and prints it as it comes.
class Answer {
 public:
  explicit Answer(bool print) : print_(print) {}

  bool on_event(const engine::TokenEvent& event) {
    if (tokens_.empty()) first_token_s_ = clock_.seconds();
    if (event.token >= 0) tokens_.push_back(event.token);
    text_ += event.text;
    finish_ = event.finish;
    error_ = event.error;
    if (print_ && !event.text.empty()) {
      std::fwrite(event.text.data(), 1, event.text.size(), stdout);
      std::fflush(stdout);
    }
    return true;
  }

  [[nodiscard]] const std::vector<int32_t>& tokens() const { return tokens_; }
  [[nodiscard]] const std::string& text() const { return text_; }
  [[nodiscard]] engine::FinishReason finish() const { return finish_; }
  [[nodiscard]] const std::string& error() const { return error_; }
  [[nodiscard]] double first_token_s() const { return first_token_s_; }
  [[nodiscard]] double total_s() const { return clock_.seconds(); }

 private:
  bool print_;
  std::vector<int32_t> tokens_;
  std::string text_;
  engine::FinishReason finish_ = engine::FinishReason::kNone;
  std::string error_;
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
  auto opened = open_model(ctx, options.model, options.kv);
  if (!opened) return opened.error();
  auto generation = io::read_generation_config(options.model);
  if (!generation) return generation.error();
  subject.model = std::move(opened->model);
  subject.tokenizer = std::move(opened->tokenizer);
  subject.checkpoint = std::move(opened->checkpoint);
  subject.generation = *std::move(generation);
  return subject;
}

/// The prompt as a user's message in the model's chat template, and the end of the answer.
Status set_chat_prompt(const Options& options, const Subject& subject, const std::string& message,
                       engine::Request& request) {
  const auto chat = ChatPrompt::open(options.model, options.template_file, *subject.tokenizer);
  if (!chat) return chat.error();
  if (chat->is_plain()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--chat: {} has no chat template; --chat-template FILE gives one",
                      options.model);
  }
  auto tokens = chat->tokens({{"user", message}});
  if (!tokens) return tokens.error();
  request.prompt = *std::move(tokens);
  request.stop_tokens = chat->stop_tokens();
  return {};
}

Result<engine::Request> make_request(const Globals& globals, const Options& options,
                                     const Subject& subject) {
  engine::Request request;
  request.max_tokens = options.max_tokens;
  request.sampling = sampling_params(options.sampling, subject.generation, globals.seed);
  request.ignore_eos = options.ignore_eos;
  request.stop_strings = options.sampling.stop;
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
  if (options.is_chat) {
    if (const Status framed = set_chat_prompt(options, subject, prompt, request); !framed) {
      return framed.error();
    }
    return request;
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
  engine_options.tokenizer = subject->tokenizer ? &*subject->tokenizer : nullptr;
  const auto& own_eos = subject->generation.eos_token_ids;
  for (const int64_t id : own_eos.empty() ? subject->model->config().eos_token_ids : own_eos) {
    engine_options.eos_tokens.push_back(static_cast<int32_t>(id));
  }
  auto engine = engine::Engine::create(ctx, *subject->model, engine_options);
  if (!engine) return engine.error();
  const double load_s = since_start.seconds();

  const auto num_prompt_tokens = static_cast<int64_t>(request->prompt.size());
  Answer answer(prints_text(globals));
  request->on_event = [&](const engine::TokenEvent& event) { return answer.on_event(event); };
  auto id = (*engine)->submit(*std::move(request));
  if (!id) return id.error();
  while ((*engine)->step()) {}
  if (answer.finish() == engine::FinishReason::kError) {
    return make_error(ErrorCode::kCorrupt, "{}: {}", options.model, answer.error());
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
                            {"finish_reason", engine::finish_reason_name(answer.finish())},
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
  add_sampling_flags(command, options->sampling);
  auto* chat = command.add_flag("--chat", options->is_chat,
                                "The prompt is a message: put it into the model's chat template");
  command
      .add_option("--chat-template", options->template_file,
                  "With --chat: a Jinja file in place of the model's own template")
      ->needs(chat);
  command.add_flag("--ignore-eos", options->ignore_eos, "Go on after an end-of-text token");
  command.add_option("--kv", options->kv,
                     "Cache format: kv16, kv8 or kv4 (default: the checkpoint's)");
  command.add_option("--kv-memory", options->kv_memory, "Memory for the cache")
      ->capture_default_str();
  command.add_option("--max-model-len", options->max_model_len,
                     "Longest prompt and answer; 0: what fits");
  add_synthetic_flags(command, options->synthetic);
  command.callback([&globals, &action, options, model, &command] {
    if (options->is_chat && model->count() == 0) {
      throw CLI::ValidationError("--chat", "needs a MODEL folder");
    }
    if (model->count() + command.get_option("--synthetic")->count() != 1) {
      throw CLI::ValidationError("generate", "give a MODEL folder or --synthetic NAME");
    }
    if (model->count() == 1 &&
        command.get_option("--prompt")->count() + command.get_option("--file")->count() != 1) {
      throw CLI::ValidationError("generate", "give a prompt with -p TEXT or -f FILE");
    }
    action = [&globals, options] { return run_generate(globals, *options); };
  });
}

}  // namespace comet::cli
