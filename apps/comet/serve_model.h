// The model behind `comet serve`: opened from a folder or made from a shape, with its tokenizer,
// chat template and the defaults of its generation_config.json. Caller: serve.cpp.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/comet/command.h"
#include "comet/engine/engine_loop.h"
#include "comet/server/service.h"

namespace comet::cli {

struct ServeModelOptions {
  std::string directory;
  SyntheticFlags synthetic;
  std::string tokenizer_directory;  // of a synthetic model; empty: none
  std::vector<std::string> served_names;
  std::string kv;
  std::string kv_memory = "auto";
  int64_t max_model_len = 0;
  int64_t max_seqs = 64;
  int64_t max_batch_tokens = 0;  // 0: what suits the device
  int64_t max_queued = 512;
};

/// Everything that must live as long as the loop does, in the order of its making.
struct RunningModel {
  std::unique_ptr<Runtime> runtime;
  std::optional<io::Checkpoint> checkpoint;
  std::unique_ptr<models::LlamaModel> model;
  std::optional<text::Tokenizer> tokenizer;
  server::ServedModel served;
  std::unique_ptr<engine::EngineLoop> loop;
};

Result<std::unique_ptr<RunningModel>> start_model(const Globals& globals,
                                                  const ServeModelOptions& options);

}  // namespace comet::cli
