// A conversation with a model: its history, and answers that stream and can be interrupted. Knows
// no terminal. Caller: chat.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/comet/chat_prompt.h"
#include "apps/comet/sampling_flags.h"
#include "comet/engine/engine.h"

namespace comet::cli {

struct ChatAnswer {
  std::string text;
  engine::FinishReason finish = engine::FinishReason::kNone;
  int64_t num_prompt_tokens = 0;
  int64_t num_tokens = 0;
  int64_t num_dropped_messages = 0;  // the oldest, for want of room in the context
  double ttft_ms = 0;
  double decode_tokens_per_s = 0;
};

class ChatSession {
 public:
  struct Settings {
    std::string system;      // empty: no system message
    int64_t max_tokens = 0;  // of an answer; 0: what the context leaves
    engine::SamplingParams sampling;
    std::vector<std::string> stop;
  };

  ChatSession(engine::Engine& engine, const ChatPrompt& prompt, Settings settings)
      : engine_(engine), prompt_(prompt), settings_(std::move(settings)) {}

  using OnText = std::function<void(std::string_view)>;
  /// Asks with the whole history; `on_text` gets the answer as it comes, `is_interrupted` is asked
  /// between steps. Question and answer then belong to the history, an interrupted one as far as it
  /// came; after an error the history is as before.
  Result<ChatAnswer> ask(const std::string& question, const OnText& on_text,
                         const std::function<bool()>& is_interrupted);

  void reset() { history_.clear(); }
  /// Takes back the last question and its answer; the question, or nothing where there is none.
  std::optional<std::string> undo();
  void set_system(std::string system) { settings_.system = std::move(system); }
  [[nodiscard]] const std::string& system() const { return settings_.system; }
  /// With the system message, if there is one.
  [[nodiscard]] std::vector<ChatMessage> messages() const;

 private:
  Result<std::vector<int32_t>> fitted_prompt(ChatAnswer& answer);
  Status run(std::vector<int32_t> prompt, const OnText& on_text,
             const std::function<bool()>& is_interrupted, ChatAnswer& answer);

  engine::Engine& engine_;
  const ChatPrompt& prompt_;
  Settings settings_;
  std::vector<ChatMessage> history_;  // question, answer, question, …
};

}  // namespace comet::cli
