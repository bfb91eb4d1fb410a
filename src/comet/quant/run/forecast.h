// What a quantization will take in time, memory and disk: shown before it starts, and the reason to
// stop early. Callers: quantize_model, apps. Memory and disk are upper bounds; time is an estimate
// from this machine's measured FP32 products.
#pragma once

#include <optional>
#include <string>

#include "comet/io/checkpoint.h"
#include "comet/ops/context.h"
#include "comet/quant/layer/calibration.h"
#include "comet/quant/recipe.h"

namespace comet::quant {

struct QuantizeForecast {
  int64_t output_bytes = 0;       // the model that is written
  int64_t scratch_bytes = 0;      // beside it in OUT.partial, for --resume
  int64_t peak_memory_bytes = 0;  // beside the mapped checkpoint
  int64_t peak_device_bytes = 0;  // of a GPU's memory, where one does the heavy work
  double flops = 0.0;             // in units of FP32 products: slower work counts more
  [[nodiscard]] double seconds(double flops_per_second) const { return flops / flops_per_second; }
};

/// `num_gate_tokens` go through both models for the quality gate.
QuantizeForecast forecast(const io::Checkpoint& checkpoint, const io::ModelConfig& config,
                          const QuantizeOptions& options, const CalibrationSet& set,
                          int64_t num_gate_tokens);

/// FP32 products (2 flops a multiply-accumulate) per second of all of ctx's threads; takes some
/// hundredths of a second.
double measure_flops_per_second(Context& ctx);

/// An error when a GPU that does the heavy work has too little memory free; none: there is no GPU.
Status check_device_memory(const QuantizeForecast& wanted, std::optional<int64_t> free_bytes);

/// An error when the disk of `out_dir` or the memory that is left does not suffice. `resume`: what
/// out_dir.partial holds already counts as room.
Status check_resources(const QuantizeForecast& wanted, const std::string& out_dir, bool resume);

}  // namespace comet::quant
