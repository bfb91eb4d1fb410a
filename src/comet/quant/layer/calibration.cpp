#include "comet/quant/layer/calibration.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "comet/kv/stage_batch.h"
#include "comet/ops/embedding/embedding.h"

namespace comet::quant {
namespace {

constexpr std::array kFloatDtypes{DType::kBF16, DType::kF16, DType::kF32};

int64_t longest(const CalibrationSet& set) {
  int64_t length = 0;
  for (const auto& sample : set.samples) {
    length = std::max(length, static_cast<int64_t>(sample.size()));
  }
  return length;
}

}  // namespace

int64_t CalibrationSet::num_tokens() const {
  int64_t total = 0;
  for (const auto& sample : samples) total += static_cast<int64_t>(sample.size());
  return total;
}

HeldBackSplit hold_back_for_gate(const Documents& documents) {
  constexpr int64_t kTenth = 10;
  HeldBackSplit split;
  const auto num_documents = static_cast<int64_t>(documents.size());
  if (num_documents >= kTenth) {
    const auto first = documents.end() - num_documents / kTenth;
    split.calibration.assign(documents.begin(), first);
    split.gate.assign(first, documents.end());
    return split;
  }
  int64_t num_tokens = 0;
  for (const auto& document : documents) num_tokens += static_cast<int64_t>(document.size());
  int64_t left = num_tokens - num_tokens / kTenth;
  for (const auto& document : documents) {
    const int64_t count = std::min(left, static_cast<int64_t>(document.size()));
    const auto cut = document.begin() + count;
    if (count > 0) split.calibration.emplace_back(document.begin(), cut);
    if (cut != document.end()) split.gate.emplace_back(cut, document.end());
    left -= count;
  }
  return split;
}

Result<CalibrationSet> cut_calibration_windows(const Documents& documents, int64_t num_samples,
                                               int64_t length) {
  COMET_CHECK(num_samples > 0 && length > 0, "{} samples of {}", num_samples, length);
  std::vector<int32_t> stream;
  for (const auto& document : hold_back_for_gate(documents).calibration) {
    stream.insert(stream.end(), document.begin(), document.end());
  }
  const auto total = static_cast<int64_t>(stream.size());
  if (total < length) {
    return make_error(
        ErrorCode::kInvalidArgument,
        "the calibration text has {} tokens (without its last tenth, which is kept for "
        "the quality gate); one sample takes {}: give more text by --calib or a "
        "smaller --calib-length",
        total, length);
  }
  const int64_t count = std::min(num_samples, total / length);
  CalibrationSet set;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t begin = count == 1 ? 0 : i * (total - length) / (count - 1);
    set.samples.emplace_back(stream.begin() + begin, stream.begin() + begin + length);
  }
  return set;
}

Status check_calibration(const CalibrationSet& set, const io::ModelConfig& config) {
  if (set.samples.empty()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "there are no calibration samples; quantization needs at least one");
  }
  for (size_t i = 0; i < set.samples.size(); ++i) {
    const auto size = static_cast<int64_t>(set.samples[i].size());
    if (size < 1 || size > config.max_position_embeddings) {
      return make_error(ErrorCode::kInvalidArgument,
                        "calibration sample {} has {} tokens; expected 1 to {} (the model's "
                        "max_position_embeddings)",
                        i, size, config.max_position_embeddings);
    }
    for (const int32_t token : set.samples[i]) {
      if (token < 0 || token >= config.vocab_size) {
        return make_error(ErrorCode::kInvalidArgument,
                          "calibration sample {} holds token {}; the model has {} (is this its "
                          "tokenizer?)",
                          i, token, config.vocab_size);
      }
    }
  }
  return {};
}

Result<Matrix> embed_samples(Context& ctx, const formats::TensorSource& tensors,
                             const io::ModelConfig& config, const CalibrationSet& set) {
  const std::string name = "model.embed_tokens.weight";
  const auto table = tensors.get(name, kFloatDtypes, {config.vocab_size, config.hidden_size});
  if (!table) return table.error();
  Matrix hidden(set.num_tokens(), config.hidden_size);
  int64_t begin = 0;
  for (const auto& sample : set.samples) {
    const auto count = static_cast<int64_t>(sample.size());
    embedding(ctx, {hidden.row(begin), {count, hidden.cols}}, *table, sample);
    begin += count;
  }
  const bool finite = std::all_of(hidden.values.begin(), hidden.values.end(),
                                  [](float x) { return std::isfinite(x); });
  if (!finite) {
    return make_error(ErrorCode::kCorrupt,
                      "tensor '{}' holds NaN or infinite values; such a model cannot be quantized",
                      name);
  }
  return hidden;
}

Status run_layer(Backend& backend, const models::LlamaLayer& layer, const LayerRun& run,
                 Matrix& hidden, bool update) {
  if (run.set.samples.empty()) return {};
  Context& ctx = backend.device;
  const io::ModelConfig& config = run.config;
  const int64_t max_length = longest(run.set);
  const int64_t num_pages = (max_length + kv::kPageTokens - 1) / kv::kPageTokens;
  auto cache = kv::KvCache::create(run.kv_format, {config.num_kv_heads, config.head_dim}, 1,
                                   num_pages, run.kv_options, 1, &ctx);
  if (!cache) return cache.error();
  const std::vector<float> frequencies = io::rope_inverse_frequencies(config);
  const Tensor inv_freq_tensor =
      copy_to_device(ctx, frequencies, {static_cast<int64_t>(frequencies.size())});
  const std::span<const float> inv_freq(inv_freq_tensor.data<float>(), frequencies.size());
  std::vector<int32_t> positions(max_length);
  std::iota(positions.begin(), positions.end(), 0);
  std::vector<int32_t> pages(num_pages);
  std::iota(pages.begin(), pages.end(), 0);
  int64_t begin = 0;
  for (const auto& sample : run.set.samples) {
    const ArenaScope scope(ctx.arena);
    const auto count = static_cast<int32_t>(sample.size());
    const std::array<int32_t, 2> cu_seqlens{0, count};
    const std::array<int32_t, 1> kv_lens{count};
    const std::array<int32_t, 1> slots{0};
    Batch batch;
    batch.tokens = sample;
    batch.positions = std::span(positions).first(count);
    batch.cu_seqlens = cu_seqlens;
    batch.kv_lens = kv_lens;
    batch.block_tables = {pages.data(), {1, num_pages}};
    batch.seq_slots = slots;
    models::Residual stream = models::Residual::allocate(ctx, count, hidden.cols);
    backend.upload(stream.x.data, hidden.row(begin), count * hidden.cols);
    layer.forward(ctx, kv::stage_batch(ctx, batch), *cache, 0, inv_freq, stream);
    stream.settle(ctx);
    if (update) {
      const Matrix out = backend.download(stream.x);
      std::copy_n(out.values.data(), count * hidden.cols, hidden.row(begin));
    }
    begin += count;
  }
  return {};
}

}  // namespace comet::quant
