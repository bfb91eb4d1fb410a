#include "apps/comet/serve_model.h"

#include <filesystem>
#include <utility>

#include "apps/comet/chat_prompt.h"
#include "comet/base/log.h"
#include "comet/server/endpoints/generation.h"

namespace comet::cli {
namespace {

void add_chat(const std::string& directory, const text::Tokenizer& tokenizer,
              server::ServedModel& served) {
  auto opened = ChatPrompt::open(directory, "", tokenizer);
  if (!opened) {
    log_warning("chat is off: {}", opened.error().message);
    served.chat_error = fmt::format(" that this server can run ({})", opened.error().message);
    return;
  }
  if (opened->is_plain()) return;  // a client should know that the model is not made for chat
  served.chat_stop_tokens = opened->stop_tokens();
  served.render_chat = [chat = *std::move(opened)](const std::vector<server::ChatMessage>& list) {
    std::vector<ChatMessage> messages;
    for (const server::ChatMessage& message : list) {
      messages.push_back({message.role, message.content});
    }
    return chat.text(messages, /*add_generation_prompt=*/true);
  };
}

/// Where a request is silent: generation_config.json, else OpenAI's defaults. As vLLM.
engine::SamplingParams default_sampling(const io::GenerationConfig& config) {
  engine::SamplingParams params;
  params.temperature = config.temperature.value_or(1.0);
  params.top_p = config.top_p.value_or(1.0);
  params.top_k = config.top_k.value_or(0);
  params.repetition_penalty = config.repetition_penalty.value_or(1.0);
  return params;
}

std::string folder_name(const std::string& directory) {
  const auto path = std::filesystem::weakly_canonical(directory);
  return path.has_filename() ? path.filename().string() : directory;
}

Status open_checkpoint(const ServeModelOptions& options, RunningModel& running,
                       io::GenerationConfig& generation) {
  Context& ctx = running.runtime->context();
  auto opened = open_model(ctx, options.directory, options.kv);
  if (!opened) return opened.error();
  running.checkpoint = std::move(opened->checkpoint);
  running.model = std::move(opened->model);
  running.tokenizer = std::move(opened->tokenizer);
  auto read = io::read_generation_config(options.directory);
  if (!read) return read.error();
  generation = *std::move(read);
  add_chat(options.directory, *running.tokenizer, running.served);
  running.served.name = folder_name(options.directory);
  running.served.aliases = {options.directory};
  return {};
}

Status make_from_shape(const Globals& globals, const ServeModelOptions& options,
                       RunningModel& running) {
  auto made = make_synthetic(running.runtime->context(), globals, options.synthetic, options.kv);
  if (!made) return made.error();
  running.model = *std::move(made);
  running.served.name = options.synthetic.name;
  if (options.tokenizer_directory.empty()) return {};
  auto tokenizer = open_tokenizer(options.tokenizer_directory);
  if (!tokenizer) return tokenizer.error();
  if (tokenizer->vocab_size() > running.model->config().vocab_size) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--tokenizer {}: has {} tokens, the shape '{}' {}",
                      options.tokenizer_directory, tokenizer->vocab_size(), options.synthetic.name,
                      running.model->config().vocab_size);
  }
  running.tokenizer = *std::move(tokenizer);
  add_chat(options.tokenizer_directory, *running.tokenizer, running.served);
  return {};
}

Status start_loop(const ServeModelOptions& options, const io::GenerationConfig& generation,
                  RunningModel& running) {
  auto kv_memory = parse_bytes("--kv-memory", options.kv_memory);
  if (!kv_memory) return kv_memory.error();
  engine::EngineOptions engine_options;
  engine_options.limits.max_seqs = options.max_seqs;
  engine_options.limits.max_batch_tokens = options.max_batch_tokens;
  engine_options.kv_memory_bytes = *kv_memory;
  engine_options.max_model_len = options.max_model_len;
  engine_options.tokenizer = running.tokenizer ? &*running.tokenizer : nullptr;
  const auto& own_eos = generation.eos_token_ids;
  for (const int64_t id : own_eos.empty() ? running.model->config().eos_token_ids : own_eos) {
    engine_options.eos_tokens.push_back(static_cast<int32_t>(id));
  }
  auto engine = engine::Engine::create(running.runtime->context(), *running.model, engine_options);
  if (!engine) return engine.error();
  running.loop = std::make_unique<engine::EngineLoop>(*std::move(engine), options.max_queued);
  return {};
}

}  // namespace

Result<std::unique_ptr<RunningModel>> start_model(const Globals& globals,
                                                  const ServeModelOptions& options) {
  auto running = std::make_unique<RunningModel>();
  auto runtime = make_runtime(globals);
  if (!runtime) return runtime.error();
  running->runtime = *std::move(runtime);
  io::GenerationConfig generation;
  const Status opened = options.synthetic.name.empty()
                            ? open_checkpoint(options, *running, generation)
                            : make_from_shape(globals, options, *running);
  if (!opened) return opened.error();
  if (const Status started = start_loop(options, generation, *running); !started) {
    return started.error();
  }
  server::ServedModel& served = running->served;
  if (!options.served_names.empty()) {
    served.aliases.insert(served.aliases.end(), options.served_names.begin() + 1,
                          options.served_names.end());
    served.aliases.push_back(std::exchange(served.name, options.served_names.front()));
  }
  served.created = server::unix_time();
  served.tokenizer = running->tokenizer;
  served.defaults = default_sampling(generation);
  return running;
}

}  // namespace comet::cli
