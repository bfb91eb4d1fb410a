// The flags that say how tokens are drawn, shared by generate and chat: they override
// generation_config.json, which overrides greedy decoding.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "comet/engine/sampling/sampling_params.h"
#include "comet/io/model_config.h"

namespace comet::cli {

struct SamplingFlags {
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<int64_t> top_k;
  std::vector<std::string> stop;
};

void add_sampling_flags(CLI::App& command, SamplingFlags& flags);
engine::SamplingParams sampling_params(const SamplingFlags& flags,
                                       const io::GenerationConfig& config, uint64_t seed);

}  // namespace comet::cli
