#include "comet/study/tasks/score/generator.h"

#include <algorithm>

namespace comet::study {
namespace {

constexpr int64_t kMaxSeqs = 32;

}  // namespace

GenerationRequest encode_prompt(const text::Tokenizer& tokenizer, std::string_view prompt,
                                int64_t max_tokens, int64_t max_length, bool add_bos) {
  GenerationRequest request;
  request.prompt = tokenizer.encode(prompt, {.add_special_tokens = add_bos, .parse_special = true});
  const auto num_prompt = static_cast<int64_t>(request.prompt.size());
  request.max_tokens = std::min(max_tokens, max_length - std::min(num_prompt, max_length / 2));
  const int64_t cut = num_prompt - (max_length - request.max_tokens);
  if (cut > 0) request.prompt.erase(request.prompt.begin(), request.prompt.begin() + cut);
  return request;
}

Result<std::unique_ptr<Generator>> Generator::create(Context& ctx, const models::LlamaModel& model,
                                                     const text::Tokenizer& tokenizer,
                                                     int64_t max_length,
                                                     std::vector<int32_t> eos_tokens) {
  engine::EngineOptions options;
  options.limits.max_seqs = kMaxSeqs;
  options.max_model_len = max_length;
  options.tokenizer = &tokenizer;
  options.eos_tokens = std::move(eos_tokens);
  auto engine = engine::Engine::create(ctx, model, options);
  if (!engine) return engine.error();
  return std::unique_ptr<Generator>(new Generator(*std::move(engine)));
}

Result<std::vector<std::string>> Generator::generate(std::span<const GenerationRequest> requests,
                                                     std::span<const std::string_view> stops) {
  std::vector<std::string> texts(requests.size());
  std::string failure;
  for (size_t i = 0; i < requests.size(); ++i) {
    engine::Request request;
    request.prompt = requests[i].prompt;
    request.max_tokens = requests[i].max_tokens;
    for (const std::string_view stop : stops) request.stop_strings.emplace_back(stop);
    request.on_event = [&texts, &failure, i](const engine::TokenEvent& event) {
      texts[i] += event.text;
      if (event.finish == engine::FinishReason::kError) failure = event.error;
      return true;
    };
    auto id = engine_->submit(std::move(request));
    if (!id) {
      engine_->cancel_all();
      while (engine_->step()) {}
      return id.error();
    }
  }
  while (engine_->step()) {}
  if (!failure.empty()) return Error{ErrorCode::kCorrupt, failure};
  return texts;
}

}  // namespace comet::study
