#include "comet/quant/run/run_fingerprint.h"

#include <filesystem>
#include <set>

#include "comet/base/hash.h"
#include "comet/quant/quant_report.h"

namespace comet::quant {
namespace {

Json tokens_json(const std::vector<std::vector<int32_t>>& samples) {
  Fnv1a hash;
  int64_t num_tokens = 0;
  for (const auto& sample : samples) {
    hash.add_number(sample.size());
    for (const int32_t token : sample) hash.add_number(static_cast<uint32_t>(token), 4);
    num_tokens += static_cast<int64_t>(sample.size());
  }
  return {{"samples", samples.size()}, {"tokens", num_tokens}, {"hash", hash.text()}};
}

Json model_json(const io::Checkpoint& checkpoint) {
  Fnv1a config;
  config.add(checkpoint.config().dump());
  Json model = {{"config_hash", config.text()}};
  std::set<std::string> paths;
  for (const std::string& name : checkpoint.names()) paths.insert(checkpoint.source(name));
  for (const std::string& path : paths) {
    std::error_code code;  // a file that vanished shows as size and time of an error: it differs
    const auto changed = std::filesystem::last_write_time(path, code).time_since_epoch().count();
    const auto size = std::filesystem::file_size(path, code);
    const std::string name = std::filesystem::path(path).filename().string();
    model[name] = {{"size", size}, {"changed", fmt::format("{}", changed)}};
  }
  return model;
}

}  // namespace

Json run_fingerprint(const Context& ctx, const io::Checkpoint& checkpoint,
                     const QuantizeOptions& options, const CalibrationSet& set,
                     const GateSet& gate) {
  return {{"options", options_json(options)},
          {"model", model_json(checkpoint)},
          {"calibration", tokens_json(set.samples)},
          {"gate", tokens_json(gate.targets)},
          {"kernel_path", fmt::format("{}{}{}", cpu_isa_name(ctx.caps.cpu_isa),
                                      ctx.caps.gpu_name.empty() ? "" : ", ", ctx.caps.gpu_name)}};
}

}  // namespace comet::quant
