#include "comet/quant/fmpq/activation_rows.h"

#include <gtest/gtest.h>

#include "comet/formats/w4ax/w4ax.h"
#include "comet/models/load.h"
#include "comet/quant/fmpq/activation_clip.h"
#include "comet/quant/fmpq/permutation.h"
#include "comet/quant/fmpq/rotation.h"
#include "support/tiny_llama.h"

namespace comet::quant {
namespace {

using formats::ActScale;
using formats::SiteLayout;

SiteLayout layout_of(int64_t k, int64_t int8_blocks, ActScale scale) {
  std::vector<float> p999 = testing::random_matrix(1, k, 3).values;
  for (float& p : p999) p = std::fabs(p);
  SiteLayout layout = make_site_layout("site", p999, int8_blocks, scale, true);
  layout.clip = 0.85F;
  return layout;
}

Json manifest(const formats::PackedLinear& packed, ActScale scale) {
  return {{"quant_method", "comet"},
          {"format", "w4ax"},
          {"version", 1},
          {"weights", {{"bits", 4}, {"granularity", "channel"}, {"group_size", 128}}},
          {"activations", {{"scale", formats::act_scale_name(scale)}, {"block_size", 128}}},
          {"kv_cache", {{"format", "kv4"}, {"rotate", false}, {"window", {0, 0}}}},
          {"layout", "tile128"},
          {"lm_head", "bf16"},
          {"sites", {packed.site}},
          {"linears", {packed.linear}}};
}

/// codes · scale as the format's producer makes them, bound from packed tensors.
Matrix producer_rows(Context& ctx, const SiteLayout& layout, const Matrix& x) {
  formats::QuantizedWeight weight;
  weight.name = "linear";
  weight.parts = {"linear"};
  weight.part_rows = {1};
  weight.site = layout;
  weight.codes.assign(layout.k_padded, 1);
  weight.channel_scale = {1.0F};
  const auto packed = formats::w4ax::pack(weight).value();
  models::MemorySource tensors;
  for (const auto& [name, tensor] : packed.tensors) tensors.put(name, tensor);
  const auto config = formats::w4ax::parse_config(manifest(packed, layout.scale), "test").value();
  const formats::LinearSpec spec{"linear", "", {"linear"}, {1}, layout.k, false};
  const auto bound = formats::w4ax_format().bind(spec, config.get(), tensors).value();
  const ArenaScope scope(ctx.arena);
  const auto made = formats::w4ax::input_from_rows(ctx, bound, x.view());
  const auto* codes = made.parts[formats::w4ax::kCodes].data<int8_t>();
  const auto* scales = made.parts[formats::w4ax::kScales].data<float>();
  const int64_t num_scales = made.parts[formats::w4ax::kScales].size(1);
  Matrix out(x.rows, layout.k_padded);
  for (int64_t t = 0; t < x.rows; ++t) {
    for (int64_t c = 0; c < layout.k_padded; ++c) {
      const int64_t segment = c < layout.int4_channels() ? 0 : 1;
      const int64_t span = layout.scale == ActScale::kS1 ? c / formats::kBlock : segment;
      out.row(t)[c] =
          static_cast<float>(codes[t * layout.k_padded + c]) * scales[t * num_scales + span];
    }
  }
  return out;
}

TEST(ActivationRows, EqualTheProducersBitForBit) {
  auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
  for (const int64_t k : {384, 300}) {
    Matrix x = testing::random_matrix(9, k, 5, 3.0F);
    std::fill(x.row(4), x.row(5), 0.0F);
    for (int64_t c = 0; c < k; ++c) x.row(5)[c] *= 1e-35F;
    for (const ActScale scale : {ActScale::kS1, ActScale::kS2, ActScale::kS2h}) {
      for (const int64_t int8_blocks : {0, 1, 3}) {
        const SiteLayout layout = layout_of(k, int8_blocks, scale);
        ThreadPool pool(1);
        const Matrix got = quantized_rows(pool, layout, stored_rows(pool, layout, x.view()));
        const Matrix want = producer_rows(runtime->context(), layout, x);
        EXPECT_EQ(got.values, want.values)
            << k << " " << formats::act_scale_name(scale) << " " << int8_blocks;
      }
    }
  }
}

double output_error(const Matrix& x, const Matrix& quantized, const Matrix& w) {
  double total = 0.0;
  for (int64_t t = 0; t < x.rows; ++t) {
    for (int64_t n = 0; n < w.rows; ++n) {
      double d = 0.0;
      for (int64_t c = 0; c < w.cols; ++c) {
        d += (static_cast<double>(quantized.row(t)[c]) - x.row(t)[c]) * w.row(n)[c];
      }
      total += d * d;
    }
  }
  return total;
}

TEST(ActivationClip, FindsTheBestRatio) {
  auto runtime = Runtime::cpu(detect_cpu_isa(), 1);
  const Matrix x = testing::random_matrix(60, 256, 1);
  const Matrix w = testing::random_matrix(20, 256, 2);
  SiteLayout layout = layout_of(256, 0, ActScale::kS2);
  layout.perm.clear();
  const float found = search_activation_clip(runtime->context(), layout, x, w);
  double least = 0.0;
  float best = 0.0F;
  ThreadPool pool(1);
  for (int percent = 100; percent >= 70; percent -= 5) {
    layout.clip = static_cast<float>(percent) / 100.0F;
    const double error = output_error(x, quantized_rows(pool, layout, x), w);
    if (best == 0.0F || error < least) {
      least = error;
      best = layout.clip;
    }
  }
  EXPECT_EQ(found, best);
  EXPECT_LT(found, 1.0F);  // Gaussian rows: clipping pays
}

TEST(ActivationClip, NothingToClipWithoutInt4Blocks) {
  auto runtime = Runtime::cpu(detect_cpu_isa(), 1);
  const SiteLayout layout = layout_of(256, 2, ActScale::kS2);
  EXPECT_EQ(search_activation_clip(runtime->context(), layout, testing::random_matrix(4, 256, 1),
                                   testing::random_matrix(4, 256, 2)),
            1.0F);
}

}  // namespace
}  // namespace comet::quant
