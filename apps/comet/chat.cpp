// comet chat MODEL: a conversation in the terminal, or over a pipe: each line of standard input is
// a message or a command, each answer goes to standard output.
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "apps/comet/chat_session.h"
#include "apps/comet/command.h"
#include "apps/comet/line_editor.h"
#include "comet/base/log.h"
#include "comet/io/file.h"

namespace comet::cli {
namespace {

constexpr size_t kMaxSystemBytes = size_t{1} << 20;
constexpr const char* kHelp =
    "/reset          forget the conversation\n"
    "/system [TEXT]  show or set the system message, and forget the conversation\n"
    "/undo           take back the last message and its answer\n"
    "/retry          answer the last message again\n"
    "/save FILE      write the conversation as JSON\n"
    "/exit           leave, as Ctrl-D does\n"
    "A line that ends with \\ goes on in the next one; so does everything between two lines "
    "of \"\"\".\n"
    "Ctrl-C stops an answer. A message that starts with / is written with // instead.\n";

struct Options {
  std::string model;
  std::string template_file;
  std::string system;
  std::string system_file;
  int64_t max_tokens = 0;
  SamplingFlags sampling;
  std::string kv;
  std::string kv_memory = "auto";
  int64_t max_model_len = 0;
};

std::atomic<bool>& interrupt_flag() {
  static std::atomic<bool> flag{false};  // all that a signal handler may touch
  return flag;
}

/// While it lives Ctrl-C sets the flag; before and after it ends the program, or is a key.
class AnswerInterrupt {
 public:
  AnswerInterrupt() {
    interrupt_flag() = false;
    struct sigaction action = {};
    action.sa_handler = [](int) { interrupt_flag() = true; };
    sigemptyset(&action.sa_mask);
    action.sa_flags = SA_RESTART;
    sigaction(SIGINT, &action, &before_);
  }
  ~AnswerInterrupt() { sigaction(SIGINT, &before_, nullptr); }
  AnswerInterrupt(const AnswerInterrupt&) = delete;
  AnswerInterrupt& operator=(const AnswerInterrupt&) = delete;

 private:
  struct sigaction before_ = {};
};

/// Reads messages and commands, and shows answers.
class Chat {
 public:
  Chat(const Globals& globals, ChatSession& session)
      : globals_(globals),
        session_(session),
        shows_text_(prints_text(globals)),
        is_dim_allowed_(isatty(STDOUT_FILENO) != 0 && std::getenv("NO_COLOR") == nullptr) {}

  Status run() {
    if (editor_.is_terminal() && shows_text_) note("/help shows the commands, Ctrl-D leaves");
    std::string message;
    while (read_message(message)) {
      if (message.empty()) continue;
      editor_.remember(message);
      if (message.starts_with("/") && !message.starts_with("//")) {
        if (!run_command(message)) break;
        continue;
      }
      const Status asked = ask(message.starts_with("//") ? message.substr(1) : message);
      // A script must notice; a person reads the error and goes on.
      if (!asked && !editor_.is_terminal()) return asked;
      if (!asked) note(asked.error().message);
    }
    return {};
  }

  [[nodiscard]] Json turns() const { return turns_; }

 private:
  /// False at the end. Joins the lines of a message.
  bool read_message(std::string& message) {
    message.clear();
    std::string line;
    bool is_block = false;
    while (true) {
      const bool is_first = message.empty() && !is_block;
      const LineEditor::Outcome outcome = editor_.read(is_first ? "> " : ". ", line);
      if (outcome == LineEditor::Outcome::kEnd) return !message.empty();
      if (outcome == LineEditor::Outcome::kInterrupted) {
        if (is_first && line.empty()) return false;
        message.clear();
        is_block = false;
        continue;
      }
      if (line == "\"\"\"") {
        if (is_block) {
          if (message.ends_with('\n')) message.pop_back();
          return true;
        }
        is_block = true;
        continue;
      }
      if (is_block) {
        message += line + "\n";
        continue;
      }
      if (!line.ends_with('\\')) {
        message += line;
        return true;
      }
      line.back() = '\n';
      message += line;
    }
  }

  void note(const std::string& text) const {
    if (globals_.quiet) return;
    const bool is_dim = isatty(STDERR_FILENO) != 0 && std::getenv("NO_COLOR") == nullptr;
    fmt::print(stderr, "{}{}{}\n", is_dim ? "\x1b[2m" : "", text, is_dim ? "\x1b[0m" : "");
  }

  Status ask(const std::string& question) {
    const AnswerInterrupt interrupt;
    const auto answer = session_.ask(
        question,
        [&](std::string_view text) {
          if (!shows_text_) return;
          std::fwrite(text.data(), 1, text.size(), stdout);
          std::fflush(stdout);
        },
        [] { return interrupt_flag().load(); });
    if (!answer) return answer.error();
    if (shows_text_) {
      std::fputs("\n", stdout);
      std::fflush(stdout);
    }
    show_end(*answer);
    turns_.push_back({{"num_prompt_tokens", answer->num_prompt_tokens},
                      {"num_tokens", answer->num_tokens},
                      {"num_dropped_messages", answer->num_dropped_messages},
                      {"finish_reason", engine::finish_reason_name(answer->finish)},
                      {"text", answer->text},
                      {"ttft_ms", answer->ttft_ms},
                      {"decode_tokens_per_s", answer->decode_tokens_per_s}});
    return {};
  }

  void show_end(const ChatAnswer& answer) const {
    if (answer.num_dropped_messages > 0) {
      note(fmt::format("(the context is full: the {} oldest messages are forgotten)",
                       answer.num_dropped_messages));
    }
    if (answer.finish == engine::FinishReason::kCancelled) note("(interrupted)");
    if (answer.finish == engine::FinishReason::kLength) {
      note("(the answer ends here: the limit of --max-tokens or the context is reached)");
    }
    if (!editor_.is_terminal() || !shows_text_) return;
    fmt::print("{}{} tokens, {:.1f} tokens/s, first after {:.0f} ms{}\n\n",
               is_dim_allowed_ ? "\x1b[2m" : "", answer.num_tokens, answer.decode_tokens_per_s,
               answer.ttft_ms, is_dim_allowed_ ? "\x1b[0m" : "");
    std::fflush(stdout);
  }

  /// False to leave.
  bool run_command(const std::string& line) {
    const size_t end = std::min(line.find_first_of(" \n"), line.size());
    const std::string name = line.substr(0, end);
    const size_t argument_at = std::min(line.find_first_not_of(" \n", end), line.size());
    const std::string argument = line.substr(argument_at);
    if (name == "/exit" || name == "/quit") return false;
    if (name == "/help") {
      fmt::print(stderr, "{}", kHelp);
    } else if (name == "/reset") {
      session_.reset();
      note("(forgotten)");
    } else if (name == "/system") {
      set_system(argument);
    } else if (name == "/undo") {
      note(session_.undo() ? "(taken back)" : "(there is nothing to take back)");
    } else if (name == "/retry") {
      retry();
    } else if (name == "/save") {
      save(argument);
    } else {
      note(fmt::format("no command '{}': /help shows them all", name));
    }
    return true;
  }

  void set_system(const std::string& text) {
    if (text.empty()) {
      note(session_.system().empty() ? "(no system message)" : session_.system());
      return;
    }
    session_.set_system(text);
    session_.reset();
    note("(the system message is set, the conversation forgotten)");
  }

  void retry() {
    const auto question = session_.undo();
    if (!question) {
      note("(there is nothing to answer again)");
      return;
    }
    if (const Status asked = ask(*question); !asked) note(asked.error().message);
  }

  void save(const std::string& path) const {
    if (path.empty()) {
      note("/save needs the name of a file");
      return;
    }
    OrderedJson list = OrderedJson::array();
    for (const ChatMessage& message : session_.messages()) {
      list.push_back({{"role", message.role}, {"content", message.content}});
    }
    const Status written = io::write_file_atomic(path, list.dump(2) + "\n");
    note(written ? fmt::format("({} messages in {})", list.size(), path) : written.error().message);
  }

  const Globals& globals_;
  ChatSession& session_;
  LineEditor editor_;
  bool shows_text_;
  bool is_dim_allowed_;
  Json turns_ = Json::array();
};

Result<engine::EngineOptions> engine_options(const Options& options, const OpenedModel& opened,
                                             const io::GenerationConfig& generation) {
  const auto kv_memory = parse_bytes("--kv-memory", options.kv_memory);
  if (!kv_memory) return kv_memory.error();
  engine::EngineOptions result;
  result.limits.max_seqs = 1;
  result.kv_memory_bytes = *kv_memory;
  result.max_model_len = options.max_model_len;
  result.tokenizer = &opened.tokenizer;
  const auto& own = generation.eos_token_ids;
  for (const int64_t id : own.empty() ? opened.model->config().eos_token_ids : own) {
    result.eos_tokens.push_back(static_cast<int32_t>(id));
  }
  return result;
}

Status run_chat(const Globals& globals, const Options& options) {
  auto runtime = make_runtime(globals);
  if (!runtime) return runtime.error();
  Context& ctx = (*runtime)->context();
  auto opened = open_model(ctx, options.model, options.kv);
  if (!opened) return opened.error();
  const auto generation = io::read_generation_config(options.model);
  if (!generation) return generation.error();
  const auto prompt = ChatPrompt::open(options.model, options.template_file, opened->tokenizer);
  if (!prompt) return prompt.error();
  if (prompt->is_plain()) {
    log_warning(
        "{} has no chat template: the turns are written as 'User:' and 'Assistant:'; "
        "--chat-template FILE gives another one",
        options.model);
  }
  const auto with = engine_options(options, *opened, *generation);
  if (!with) return with.error();
  const auto engine = engine::Engine::create(ctx, *opened->model, *with);
  if (!engine) return engine.error();

  ChatSession::Settings settings;
  settings.system = options.system;
  if (!options.system_file.empty()) {
    auto text = io::read_file(options.system_file, kMaxSystemBytes);
    if (!text) return text.error();
    settings.system = *std::move(text);
  }
  settings.max_tokens = options.max_tokens;
  settings.sampling = sampling_params(options.sampling, *generation, globals.seed);
  settings.stop = options.sampling.stop;
  ChatSession session(**engine, *prompt, std::move(settings));
  Chat chat(globals, session);
  const Status ran = chat.run();
  if (!ran) return ran;
  Json messages = Json::array();
  for (const ChatMessage& message : session.messages()) {
    messages.push_back({{"role", message.role}, {"content", message.content}});
  }
  return write_json_result(globals, "chat", {{"messages", messages}, {"turns", chat.turns()}});
}

}  // namespace

void add_chat(CLI::App& app, const Globals& globals, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("chat", "Talk with a model in the terminal");
  command.add_option("MODEL", options->model, "Model folder")->required();
  auto* system = command.add_option("--system", options->system, "The system message");
  command.add_option("--system-file", options->system_file, "Read the system message from a file")
      ->excludes(system);
  command.add_option("--chat-template", options->template_file,
                     "A Jinja file in place of the model's own template");
  command
      .add_option("-n,--max-tokens", options->max_tokens,
                  "Tokens of an answer at most; 0: what the context leaves")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 30));
  add_sampling_flags(command, options->sampling);
  command.add_option("--kv", options->kv,
                     "Cache format: kv16, kv8 or kv4 (default: the checkpoint's)");
  command.add_option("--kv-memory", options->kv_memory, "Memory for the cache")
      ->capture_default_str();
  command.add_option("--max-model-len", options->max_model_len,
                     "Longest prompt and answer; 0: what fits");
  command.callback([&globals, &action, options] {
    action = [&globals, options] { return run_chat(globals, *options); };
  });
}

}  // namespace comet::cli
