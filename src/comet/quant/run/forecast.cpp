#include "comet/quant/run/forecast.h"

#include <algorithm>
#include <filesystem>

#include "comet/base/clock.h"
#include "comet/io/file.h"
#include "comet/quant/backend/backend.h"
#include "comet/quant/layer/site_inputs.h"
#include "comet/quant/output_folder.h"
#include "comet/quant/run/run_state.h"
#include "comet/quant/weights/weight_methods.h"

namespace comet::quant {
namespace {

// How much slower than FP32 products a flop of these stages is (bench/results: w4ax against dense;
// perf of a 1B layer on AVX-512).
constexpr double kQuantizedRun = 0.8;
constexpr double kFactoring = 3.0;
constexpr double kFeedback = 3.0;
constexpr double kAttention = 4.0;
constexpr double kGridSearchFlopsPerWeight = 8000.0;
constexpr double kRoundingFlopsPerWeight = 400.0;
// SmoothQuant's search: strengths tried, each on so many rows and outputs.
constexpr double kStrengths = 18.0;
constexpr double kSearchRows = 256.0;
constexpr double kSearchOutputs = 1024.0;
constexpr double kScoreFlopsPerLogit = 2000.0;  // three exponentials in FP64 for two models

/// One layer.
struct LayerWork {
  double weights = 0.0;  // of the model, unpadded
  double qkv_weights = 0.0;
  double hessian_entries = 0.0;  // Σ K²
  double factor_flops = 0.0;     // Σ K³/3
  double feedback_flops = 0.0;   // Σ N·K²
  double search_flops = 0.0;     // of SmoothQuant's strengths
  int64_t padded_weights = 0;
  int64_t packed_bytes = 0;
  int64_t hessian_bytes = 0;
  int64_t widest = 0;        // padded channels
  int64_t solver_bytes = 0;  // of a GPU, for the GPTQ of the linear that takes most
  int64_t sum_bytes = 0;     // of a GPU, for the sums of all sites
};

/// Of one linear of `rows` outputs (padded where nibbles are) and k inputs.
int64_t packed_bytes(const formats::LinearSpec& spec, int64_t padded_rows, int64_t padded_k,
                     const QuantizeOptions& options) {
  if (options.codes != WeightCodes::kS4) return spec.n() * (spec.k + 4 + 4);  // scale and bias
  // Nibbles, at most two bytes of scales per group, a channel scale, a permutation.
  return padded_rows * padded_k / 2 + padded_rows * padded_k / 64 + padded_rows * 4 + padded_k * 4;
}

/// Of a GPU: sum, its triangular factor and that in FP32; later the factor, and the weight, what
/// its codes leave over (16,384 rows at a time) and codes.
int64_t solver_bytes(int64_t rows, int64_t k) {
  const int64_t coding = 4 * k * k + 5 * rows * k + 4 * std::min<int64_t>(rows, 16384) * (k + 128);
  return std::max(20 * k * k, coding);
}

LayerWork layer_work(const io::ModelConfig& config, const QuantizeOptions& options) {
  LayerWork work;
  for (const formats::LinearSpec& spec : models::llama_linear_specs(config, 0)) {
    const int64_t k = (spec.k + formats::kBlock - 1) / formats::kBlock * formats::kBlock;
    int64_t rows = 0;
    for (const int64_t part : spec.part_rows) rows += (part + 127) / 128 * 128;
    const auto width = static_cast<double>(k);
    const auto weights = static_cast<double>(spec.n() * spec.k);
    if (work.weights == 0.0) work.qkv_weights = weights;
    work.weights += weights;
    work.hessian_entries += width * width;
    work.factor_flops += width * width * width / 3.0;
    work.feedback_flops += static_cast<double>(spec.n()) * width * width;
    work.padded_weights += rows * k;
    const double outputs = std::min(static_cast<double>(spec.n()), kSearchOutputs);
    work.search_flops += 2.0 * kStrengths * kSearchRows * outputs * width;
    work.packed_bytes += packed_bytes(spec, rows, k, options);
    // Sum and, per chunk of 2,048 tokens, inputs.
    work.hessian_bytes += k * (k * 8 + 2048 * 4);
    work.widest = std::max(work.widest, k);
    work.solver_bytes = std::max(work.solver_bytes, solver_bytes(spec.n(), k));
    work.sum_bytes += k * k * 8 + 2048 * 2 * k * 4;
  }
  return work;
}

bool needs_hessian(const QuantizeOptions& options) {
  const auto method = find_weight_method(options.weights);
  return method.ok() && (*method)->needs_hessian;
}

bool searches_scales(const QuantizeOptions& options) {
  return options.weights == "clip" || (options.weights == "gptq" && options.search_scales);
}

/// Multiply-accumulates of attention over the samples, both products, causal.
double attention_macs(const io::ModelConfig& config, const CalibrationSet& set) {
  double pairs = 0.0;
  for (const auto& sample : set.samples) {
    const auto length = static_cast<double>(sample.size());
    pairs += length * length / 2.0;
  }
  return pairs * 2.0 * static_cast<double>(config.num_heads * config.head_dim);
}

double total_flops(const io::ModelConfig& config, const QuantizeOptions& options,
                   const CalibrationSet& set, int64_t num_gate_tokens) {
  const LayerWork work = layer_work(config, options);
  const auto tokens = static_cast<double>(set.num_tokens());
  const auto gate_tokens = static_cast<double>(num_gate_tokens);
  const bool hessians = needs_hessian(options);
  double passes = options.rotate_values ? 2.0 : 1.0;
  if (hessians && !SiteInputs::fit(config, set.num_tokens())) passes += 1.0;
  if (!needs_calibration(options)) passes = 0.0;
  // Without a text all that is left of these is 0.
  double layer = 2.0 * work.weights * tokens * (passes + kQuantizedRun);
  layer += 2.0 * kAttention * attention_macs(config, set) * (passes + 1.0);
  if (options.smooth_keys) layer += 2.0 * work.qkv_weights * tokens;
  if (hessians) {
    layer += work.hessian_entries * tokens + kFactoring * work.factor_flops +
             kFeedback * work.feedback_flops;
  }
  if (options.smoothing == Smoothing::kSearch) layer += work.search_flops;
  layer += work.weights *
           (searches_scales(options) ? kGridSearchFlopsPerWeight : kRoundingFlopsPerWeight);
  layer += 2.0 * work.weights * gate_tokens * (1.0 + kQuantizedRun);
  const auto logits = gate_tokens * static_cast<double>(config.vocab_size);
  const double head =
      logits * (4.0 * static_cast<double>(config.hidden_size) + kScoreFlopsPerLogit);
  return static_cast<double>(config.num_layers) * layer + head;
}

/// The layer in FP32 and what runs through it, or GPTQ; products of kept rows for the report.
int64_t device_bytes(const io::ModelConfig& config, const QuantizeOptions& options,
                     const CalibrationSet& set, const LayerWork& work) {
  constexpr int64_t kOverhead = int64_t{512} << 20;  // cuBLASLt's workspace, kernels, code
  constexpr int64_t kKeptRows = 1024;
  size_t longest = 0;
  for (const auto& sample : set.samples) longest = std::max(longest, sample.size());
  const int64_t row_bytes = 8 * (4 * config.hidden_size + 4 * config.intermediate_size);
  int64_t layer = 4 * work.padded_weights + static_cast<int64_t>(longest) * row_bytes;
  int64_t solver = 0;
  if (needs_hessian(options)) {
    // Inputs of all sites, or their sums at once.
    const int64_t kept_bytes = SiteInputs::bytes(config, set.num_tokens());
    const int64_t beside = kept_bytes > 0 ? kept_bytes : work.sum_bytes;
    layer += beside;
    solver = work.solver_bytes + beside;
  }
  const int64_t products = 4 * (work.padded_weights + 2 * kKeptRows * work.widest);
  return kOverhead + std::max({layer, solver, products});
}

int64_t bytes_of_files(const std::string& folder) {
  std::error_code code;
  int64_t total = 0;
  for (const auto& item : std::filesystem::directory_iterator(folder, code)) {
    const auto size = item.is_regular_file(code) ? item.file_size(code) : 0;
    if (!code) total += static_cast<int64_t>(size);
  }
  return total;
}

}  // namespace

QuantizeForecast forecast(const io::Checkpoint& checkpoint, const io::ModelConfig& config,
                          const QuantizeOptions& options, const CalibrationSet& set,
                          int64_t num_gate_tokens) {
  const LayerWork work = layer_work(config, options);
  int64_t other_bytes = 0;
  for (const std::string& name : checkpoint.names()) {
    if (!name.starts_with("model.layers.")) {
      other_bytes += static_cast<int64_t>(checkpoint.find(name)->num_bytes);
    }
  }
  const int64_t lm_head_bytes =
      options.int8_lm_head ? config.vocab_size * (config.hidden_size + 4) : 0;
  constexpr int64_t kSmallFiles = int64_t{64} << 20;  // tokenizer, manifest, report: generous
  const int64_t hidden_values = (set.num_tokens() + 2 * num_gate_tokens) * config.hidden_size;
  QuantizeForecast result;
  result.output_bytes =
      other_bytes + lm_head_bytes + config.num_layers * work.packed_bytes + kSmallFiles;
  result.scratch_bytes = RunState::bytes_for(hidden_values);
  // The layer in FP32, and of its largest linear the stored, coded and decoded forms: under four
  // times the layer; Hessians, and while one is factored two more of the widest.
  result.peak_memory_bytes = 16 * work.padded_weights + 4 * hidden_values;
  if (needs_hessian(options)) {
    result.peak_memory_bytes += work.hessian_bytes + 2 * work.widest * work.widest * 8;
    result.peak_memory_bytes += SiteInputs::bytes(config, set.num_tokens());
  }
  // Logits of both models for some rows; one gate step's are small beside a layer but for wide
  // vocabularies.
  result.peak_memory_bytes += num_gate_tokens > 0 ? 2 * 128 * 4 * config.vocab_size : 0;
  result.peak_device_bytes = device_bytes(config, options, set, work);
  result.flops = total_flops(config, options, set, num_gate_tokens);
  return result;
}

double measure_flops_per_second(Context& ctx) {
  constexpr int64_t kTokens = 256;
  constexpr int64_t kSize = 1024;
  const auto backend = make_backend(ctx);
  const Matrix x(kTokens, kSize);
  const Matrix weight(kSize, kSize);
  double best_seconds = 0.0;
  for (int i = 0; i < 4; ++i) {  // the first also brings pages and clocks up
    const Stopwatch stopwatch;
    (void)backend->product(x, weight);
    const double seconds = std::max(stopwatch.seconds(), 1e-6);
    best_seconds = i == 0 ? seconds : std::min(best_seconds, seconds);
  }
  return 2.0 * static_cast<double>(kTokens * kSize * kSize) / best_seconds;
}

Status check_device_memory(const QuantizeForecast& wanted, std::optional<int64_t> free_bytes) {
  if (!free_bytes || *free_bytes >= wanted.peak_device_bytes) return {};
  return make_error(ErrorCode::kResourceExhausted,
                    "quantizing takes about {} bytes of the GPU's memory, but only {} are free; "
                    "use fewer calibration samples, --weights clip, or --device cpu",
                    wanted.peak_device_bytes, *free_bytes);
}

Status check_resources(const QuantizeForecast& wanted, const std::string& out_dir, bool resume) {
  const auto disk = io::free_disk_bytes(out_dir);
  if (!disk) return disk.error();
  int64_t disk_bytes = wanted.output_bytes + wanted.scratch_bytes;
  if (resume) disk_bytes -= std::min(disk_bytes, bytes_of_files(OutputFolder::partial_of(out_dir)));
  if (static_cast<int64_t>(*disk) < disk_bytes) {
    return make_error(ErrorCode::kResourceExhausted,
                      "{}: the quantized model and its making take {} bytes, but only {} are free "
                      "there; free some space or choose another -o",
                      out_dir, disk_bytes, *disk);
  }
  const auto memory = io::available_memory_bytes();
  if (!memory) return memory.error();
  if (static_cast<int64_t>(*memory) < wanted.peak_memory_bytes) {
    return make_error(ErrorCode::kResourceExhausted,
                      "quantizing takes about {} bytes of memory, but only {} are available; use "
                      "fewer or shorter calibration samples, or --weights clip",
                      wanted.peak_memory_bytes, *memory);
  }
  return {};
}

}  // namespace comet::quant
