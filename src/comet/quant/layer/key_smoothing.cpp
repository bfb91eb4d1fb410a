#include "comet/quant/layer/key_smoothing.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace comet::quant {
namespace {

/// absmax[head / heads_per_group · half + pair] over x [tokens, heads · head_dim].
void update_absmax(View<const float, 2> x, int64_t head_dim, int64_t heads_per_group,
                   std::vector<float>& absmax) {
  const int64_t half = head_dim / 2;
  for (int64_t t = 0; t < x.size(0); ++t) {
    for (int64_t i = 0; i < x.size(1); ++i) {
      float* group = absmax.data() + i / head_dim / heads_per_group * half;
      group[i % half] = std::max(group[i % half], std::fabs(x(t, i)));
    }
  }
}

/// In the host's memory.
View<const float, 1> values_of(const nn::RmsNorm& norm) {
  return {norm.weight().data(), {static_cast<int64_t>(norm.weight().size())}};
}

}  // namespace

std::vector<float> key_scales(Backend& backend, const models::LlamaLayer& layer,
                              const io::ModelConfig& config, const CalibrationSet& set,
                              const Matrix& hidden) {
  const std::vector<float> inv_freq = io::rope_inverse_frequencies(config);
  // Norms of q and k have one weight for all heads.
  const int64_t num_groups = config.qk_norm ? 1 : config.num_kv_heads;
  const int64_t size = num_groups * config.head_dim / 2;
  std::vector<float> q_absmax(size, 0.0F);
  std::vector<float> k_absmax(size, 0.0F);
  std::vector<int32_t> positions;
  int64_t begin = 0;
  for (const auto& sample : set.samples) {
    Context& ctx = backend.device;
    const ArenaScope scope(ctx.arena);
    const auto count = static_cast<int64_t>(sample.size());
    positions.resize(count);
    std::iota(positions.begin(), positions.end(), 0);
    models::Residual stream = models::Residual::allocate(ctx, count, hidden.cols);
    backend.upload(stream.x.data, hidden.row(begin), count * hidden.cols);
    const kv::HeadsInput projected = layer.project(ctx, stream, inv_freq);
    Matrix q = backend.download(projected.q);
    Matrix k = backend.download(projected.k);
    const kv::HeadsInput heads{
        q.view(),           k.view(), {}, values_of(layer.q_norm), values_of(layer.k_norm),
        projected.norm_eps, inv_freq};
    kv::norm_and_rotate_heads(backend.host, heads, config.head_dim, positions);
    update_absmax(q.view(), config.head_dim, config.num_heads / num_groups, q_absmax);
    update_absmax(k.view(), config.head_dim, config.num_kv_heads / num_groups, k_absmax);
    begin += count;
  }
  std::vector<float> lambda(size, 1.0F);
  for (int64_t i = 0; i < size; ++i) {
    if (!(q_absmax[i] > 0.0F) || !(k_absmax[i] > 0.0F)) continue;
    lambda[i] = std::clamp(std::sqrt(k_absmax[i] / q_absmax[i]), 0x1p-10F, 0x1p10F);
  }
  return lambda;
}

}  // namespace comet::quant
