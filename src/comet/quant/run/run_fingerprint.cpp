#include "comet/quant/run/run_fingerprint.h"

#include <filesystem>
#include <set>

#include "comet/quant/quant_report.h"

namespace comet::quant {
namespace {

/// FNV-1a, 64 bits.
class Hash {
 public:
  void add(uint64_t value, int num_bytes) {
    for (int i = 0; i < num_bytes; ++i) {
      state_ = (state_ ^ (value >> (8 * i) & 0xFF)) * 0x100000001B3ULL;
    }
  }
  void add(std::string_view text) {
    for (const char c : text) add(static_cast<unsigned char>(c), 1);
  }
  [[nodiscard]] std::string text() const { return fmt::format("{:016x}", state_); }

 private:
  uint64_t state_ = 0xCBF29CE484222325ULL;
};

Json tokens_json(const std::vector<std::vector<int32_t>>& samples) {
  Hash hash;
  int64_t num_tokens = 0;
  for (const auto& sample : samples) {
    hash.add(sample.size(), 8);
    for (const int32_t token : sample) hash.add(static_cast<uint32_t>(token), 4);
    num_tokens += static_cast<int64_t>(sample.size());
  }
  return {{"samples", samples.size()}, {"tokens", num_tokens}, {"hash", hash.text()}};
}

Json model_json(const io::Checkpoint& checkpoint) {
  Hash config;
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
