// Logits of the last token of a prompt by a model folder as a loader opens it, and how far two such
// rows lie apart; for tests that compare whole models.
#pragma once

#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "comet/models/load.h"

namespace comet::testing {

inline std::vector<float> last_logits(Context& ctx, const models::LlamaModel& model,
                                      const std::vector<int32_t>& tokens) {
  const auto count = static_cast<int32_t>(tokens.size());
  auto cache = model.make_cache(ctx, 2, 1).value();
  std::vector<int32_t> positions(tokens.size());
  std::iota(positions.begin(), positions.end(), 0);
  const std::array<int32_t, 2> cu_seqlens{0, count};
  const std::array<int32_t, 1> kv_lens{count};
  std::array<int32_t, 2> pages{0, 1};
  const std::array<int32_t, 1> slots{0};
  const std::array<int32_t, 1> sample_rows{count - 1};
  Batch batch;
  batch.tokens = tokens;
  batch.positions = positions;
  batch.cu_seqlens = cu_seqlens;
  batch.kv_lens = kv_lens;
  batch.block_tables = {pages.data(), {1, 2}};
  batch.sample_rows = sample_rows;
  batch.seq_slots = slots;
  const ArenaScope scope(ctx.arena);
  const Tensor logits = copy_to_host(ctx, model.forward(ctx, batch, cache));
  return {logits.data<float>(), logits.data<float>() + logits.num_elements()};
}

inline std::vector<float> last_logits(const std::string& folder,
                                      const std::vector<int32_t>& tokens) {
  auto runtime = Runtime::cpu(detect_cpu_isa(), 1);
  Context& ctx = runtime->context();
  const auto checkpoint = io::Checkpoint::open(folder).value();
  const auto model = models::load_model(ctx, checkpoint, "").value();
  return last_logits(ctx, *model, tokens);
}

/// ‖got − want‖ / ‖want‖.
inline double relative_distance(const std::vector<float>& got, const std::vector<float>& want) {
  double error = 0.0;
  double signal = 0.0;
  for (size_t i = 0; i < want.size(); ++i) {
    error += std::pow(static_cast<double>(got[i]) - want[i], 2);
    signal += std::pow(static_cast<double>(want[i]), 2);
  }
  return std::sqrt(error / signal);
}

}  // namespace comet::testing
