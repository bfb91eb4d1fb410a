#include "comet/quant/blocks/simulated_input.h"

#include <algorithm>

#include "comet/ops/op_table.h"
#include "comet/quant/fmpq/activation_rows.h"
#include "comet/quant/fmpq/rotation.h"

namespace comet::quant {
namespace {

using formats::Activation;
using formats::LinearWeight;

struct SimulatedConfig final : formats::FormatConfig {
  formats::SiteLayout layout;
};

struct SimulatedMeta final : formats::LinearMeta {
  formats::SiteLayout layout;
};

const formats::WeightFormat& dense() {
  const auto format = formats::find_weight_format("dense");
  COMET_CHECK(format.ok(), "no dense format");
  return **format;
}

/// What the plain dense producer made, replaced by what its codes stand for.
Activation simulated(Context& ctx, const LinearWeight& weight, const Activation& plain) {
  const auto& meta = static_cast<const SimulatedMeta&>(*weight.meta);
  const View<float, 2> rows = plain.parts[0].view<float, 2>();
  const Matrix quantized =
      simulated_rows(ctx.pool, meta.layout, {rows.data, {rows.size(0), rows.size(1)}});
  std::copy(quantized.values.begin(), quantized.values.end(), rows.data);
  return plain;
}

Activation from_rows(Context& ctx, const LinearWeight& weight, ConstRows x) {
  return simulated(ctx, weight, dense().cpu.input_from_rows(ctx, weight, x));
}

Activation from_norm(Context& ctx, const LinearWeight& weight, const formats::NormInput& input) {
  return simulated(ctx, weight, dense().cpu.input_from_norm(ctx, weight, input));
}

Activation from_silu_mul(Context& ctx, const LinearWeight& weight,
                         const formats::SiluMulInput& input) {
  return simulated(ctx, weight, dense().cpu.input_from_silu_mul(ctx, weight, input));
}

Result<LinearWeight> bind(const formats::LinearSpec& spec, const formats::FormatConfig* config,
                          const formats::TensorSource& tensors);

const formats::WeightFormat& simulated_format() {
  static const formats::WeightFormat format = [] {
    formats::WeightFormat made = dense();
    made.name = "dense with simulated inputs";
    made.bind = bind;
    made.cpu.input_from_rows = from_rows;
    made.cpu.input_from_norm = from_norm;
    made.cpu.input_from_silu_mul = from_silu_mul;
    return made;
  }();
  return format;
}

Result<LinearWeight> bind(const formats::LinearSpec& spec, const formats::FormatConfig* config,
                          const formats::TensorSource& tensors) {
  auto weight = dense().bind(spec, nullptr, tensors);
  if (!weight) return weight;
  auto meta = std::make_shared<SimulatedMeta>();
  meta->layout = static_cast<const SimulatedConfig*>(config)->layout;
  weight->meta = std::move(meta);
  weight->format = &simulated_format();
  return weight;
}

}  // namespace

Matrix simulated_rows(ThreadPool& pool, const formats::SiteLayout& layout,
                      View<const float, 2> rows) {
  Matrix stored = quantized_rows(pool, layout, stored_rows(pool, layout, rows));
  rotate_int4_blocks(pool, stored, layout);  // its own inverse
  Matrix back(rows.size(0), layout.k);
  pool.parallel_for(back.rows, [&](int64_t t, int) {
    const float* from = stored.row(t);
    float* to = back.row(t);
    for (int64_t j = 0; j < layout.k_padded; ++j) {
      const int64_t channel = layout.perm.empty() ? j : layout.perm[j];
      if (channel >= 0 && channel < layout.k) to[channel] = from[j];
    }
  });
  return back;
}

Result<nn::Linear> bind_simulated_linear(const LayerWeights& layer, const io::ModelConfig& config,
                                         Site site, const formats::SiteLayout& layout,
                                         const Caps& caps) {
  SimulatedConfig simulated;
  simulated.layout = layout;
  return nn::Linear::load(layer.spec(site), simulated_format(), &simulated,
                          borrow_tensors(layer, config), caps);
}

}  // namespace comet::quant
