#include "apps/comet/sampling_flags.h"

namespace comet::cli {

void add_sampling_flags(CLI::App& command, SamplingFlags& flags) {
  command.add_option("--temperature", flags.temperature, "0 is greedy")
      ->check(CLI::Range(0.0, 100.0));
  command.add_option("--top-k", flags.top_k, "Keep the k likeliest tokens; 0: all")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--top-p", flags.top_p, "Keep the likeliest tokens of this mass")
      ->check(CLI::Range(0.0, 1.0));
  command.add_option("--min-p", flags.min_p, "Drop tokens below this share of the likeliest")
      ->check(CLI::Range(0.0, 1.0));
  command.add_option("--repetition-penalty", flags.repetition_penalty, "1 is off")
      ->check(CLI::Range(0.01, 100.0));
  command.add_option("--stop", flags.stop, "End before this text (repeatable)")
      ->allow_extra_args(false)
      ->check([](const std::string& stop) {
        return stop.empty() ? std::string("an empty stop text would end every answer")
                            : std::string();
      });
}

engine::SamplingParams sampling_params(const SamplingFlags& flags,
                                       const io::GenerationConfig& config, uint64_t seed) {
  engine::SamplingParams params;
  params.seed = seed;
  if (config.do_sample.value_or(false)) {
    params.temperature = config.temperature.value_or(1.0);
    params.top_p = config.top_p.value_or(1.0);
    params.top_k = config.top_k.value_or(0);
  }
  params.repetition_penalty = config.repetition_penalty.value_or(1.0);
  if (flags.temperature) params.temperature = *flags.temperature;
  if (flags.top_p) params.top_p = *flags.top_p;
  if (flags.min_p) params.min_p = *flags.min_p;
  if (flags.top_k) params.top_k = *flags.top_k;
  if (flags.repetition_penalty) params.repetition_penalty = *flags.repetition_penalty;
  return params;
}

}  // namespace comet::cli
