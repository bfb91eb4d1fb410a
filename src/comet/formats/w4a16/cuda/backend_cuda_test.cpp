// w4a16 on CUDA as a linear goes: pack, bind, plan, prepare, input, every kernel row; against the
// scalar reference on BF16-rounded inputs. Fused parts, biases, zero points, orders of channels.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string_view>

#include "comet/base/rng.h"
#include "comet/device/cuda/cuda_check.h"
#include "comet/formats/schemes/compressed_tensors.h"
#include "comet/formats/w4a16/w4a16.h"
#include "support/tensor_map.h"

namespace comet::formats {
namespace {

using ::comet::testing::make_tensor;
using ::comet::testing::TensorMap;

struct LinearCase {
  std::vector<int64_t> part_rows{1};
  int64_t k = 128;
  int64_t group = 128;
  DType scale_type = DType::kBF16;
  bool bias = false;
  bool zeros = false;
  bool ordered = false;  // channels are assigned to groups at random
};

QuantizedWeight random_weight(const LinearCase& c) {
  Rng rng(static_cast<uint64_t>(c.k + c.group), c.part_rows.size());
  QuantizedWeight w;
  w.name = "model.layers.0.self_attn.qkv_proj";
  w.part_rows = c.part_rows;
  for (size_t i = 0; i < c.part_rows.size(); ++i) w.parts.push_back(fmt::format("p{}_proj", i));
  w.site.k = w.site.k_padded = c.k;
  w.site.scale = ActScale::kA16;
  w.granularity = Granularity::kGroup;
  w.scale_type = c.scale_type;
  w.group_size = c.group;
  for (int64_t i = 0; i < w.num_rows() * c.k; ++i) {
    w.codes.push_back(static_cast<int8_t>(static_cast<int>(rng.next_below(16)) - 8));
  }
  for (int64_t i = 0; i < w.num_rows() * (c.k / c.group); ++i) {
    const float scale = rng.next_uniform() * 0.1F;
    w.group_scale.push_back(c.scale_type == DType::kBF16  ? to_float(to_bfloat16(scale))
                            : c.scale_type == DType::kF16 ? to_float(to_float16(scale))
                                                          : scale);
    if (c.zeros) {
      w.group_zero.push_back(static_cast<int8_t>(static_cast<int>(rng.next_below(16)) - 8));
    }
  }
  for (int64_t i = 0; c.bias && i < w.num_rows(); ++i) w.bias.push_back(rng.next_normal());
  if (!c.ordered) return w;
  w.site.perm.resize(static_cast<size_t>(c.k));
  std::iota(w.site.perm.begin(), w.site.perm.end(), 0);
  for (size_t i = w.site.perm.size(); i > 1; --i) {
    std::swap(w.site.perm[i - 1], w.site.perm[rng.next_below(i)]);
  }
  for (int64_t g = 0; g < c.k; g += c.group) {  // within a group, the model's order
    std::sort(w.site.perm.begin() + g, w.site.perm.begin() + g + c.group);
  }
  return w;
}

/// Bound, on the host.
LinearWeight bind_case(const LinearCase& c) {
  const QuantizedWeight weight = random_weight(c);
  const WeightFormat& format = w4a16_format();
  Json arguments = quantization_arguments(4, "int", "group", c.group);
  arguments["symmetric"] = !c.zeros;
  const auto config = *read_compressed_tensors(
      compressed_tensors_manifest("pack-quantized", arguments, nullptr), "config.json");
  TensorMap tensors;
  tensors.add(*format.pack(weight));
  const LinearSpec spec{weight.name,   "model.layers.0.self_attn.",
                        weight.parts,  weight.part_rows,
                        weight.site.k, c.bias};
  return *format.bind(spec, config.get(), tensors);
}

/// Gaussian, representable in BF16.
Tensor random_rows(int64_t rows, int64_t k) {
  Rng rng(21, static_cast<uint64_t>(rows));
  std::vector<float> x(static_cast<size_t>(rows * k));
  for (float& value : x) value = to_float(to_bfloat16(rng.next_normal()));
  return make_tensor(Shape{rows, k}, x);
}

/// `linear` of weights BF16(scale · code), as w4a16_wgmma multiplies those of BF16 scales without
/// zero points (gemm.h: multiplies_scaled).
std::vector<float> rounded_product(const QuantizedWeight& w, const Tensor& x) {
  std::vector<float> y;
  for (int64_t token = 0; token < x.size(0); ++token) {
    for (int64_t row = 0; row < w.num_rows(); ++row) {
      double sum = w.bias.empty() ? 0.0 : double{w.bias[static_cast<size_t>(row)]};
      for (int64_t i = 0; i < w.site.k; ++i) {
        const float scale =
            w.group_scale[static_cast<size_t>(i / w.group_size * w.num_rows() + row)];
        const float value =
            scale * static_cast<float>(w.codes[static_cast<size_t>(row * w.site.k + i)]);
        sum += double{to_float(to_bfloat16(value))} * x.data<float>()[token * w.site.k + i];
      }
      y.push_back(static_cast<float>(sum));
    }
  }
  return y;
}

/// The largest output: rounding of a sum is measured by it.
double size_of(const std::vector<float>& want) {
  double size = 1;
  for (const float y : want) size = std::max(size, std::abs(double{y}));
  return size;
}

TEST(W4a16CudaBackend, EveryKernelRowFollowsTheReference) {
  const auto runtime = Runtime::cuda(0, 1);
  if (!runtime) GTEST_SKIP() << "no GPU";
  Context& ctx = (*runtime)->context();
  for (const LinearCase& c : std::vector<LinearCase>{
           {.part_rows = {130, 16, 5}, .k = 384, .bias = true},
           {.part_rows = {64, 32}, .k = 1152, .scale_type = DType::kF16, .zeros = true},
           {.part_rows = {9, 2}, .k = 384, .bias = true, .zeros = true, .ordered = true},
           {.part_rows = {35}, .k = 1248, .group = 32, .zeros = true, .ordered = true},
           {.part_rows = {6, 5}, .k = 192, .group = 64, .scale_type = DType::kF16},
           {.part_rows = {7}, .k = 32, .group = 32, .scale_type = DType::kF32}}) {
    const LinearWeight bound = bind_case(c);
    LinearWeight weight = bound;
    ASSERT_TRUE(plan_linear(weight, ctx.caps).ok());
    ASSERT_TRUE(weight.backend->prepare(ctx, weight).ok());
    const int64_t n = bound.spec.n();
    for (const int64_t rows : {1, 7, 33, 130}) {
      const ArenaScope scope(ctx.arena);
      const Tensor host = random_rows(rows, c.k);
      const Tensor x = copy_to_device(ctx, host);
      std::vector<float> want(static_cast<size_t>(rows * n));
      Activation host_input;
      host_input.rows = rows;
      host_input.parts[0] = host;
      w4a16_format().reference_linear(bound, host_input, {want.data(), {rows, n}});
      const bool is_rounded = c.group == 128 && c.scale_type == DType::kBF16 && !c.zeros;
      const std::vector<float> want_rounded =
          is_rounded ? rounded_product(random_weight(c), host) : want;
      const Activation input = weight.backend->input_from_rows(ctx, weight, x);
      for (const LinearKernel& kernel : weight.backend->kernels) {
        if (!kernel.supports(weight, ctx.caps)) continue;
        const bool is_wgmma = std::string_view(kernel.name) == "w4a16_wgmma";
        for (const DType type : {DType::kF32, DType::kBF16}) {
          const Tensor out = ctx.arena.alloc(type, {rows, n});
          kernel.run(ctx, weight, input, out);
          const Tensor got = copy_to_host(ctx, out);
          for (int64_t i = 0; i < rows * n; ++i) {
            const double y = (is_wgmma ? want_rounded : want)[static_cast<size_t>(i)];
            const float value =
                type == DType::kF32 ? got.data<float>()[i] : to_float(got.data<BFloat16>()[i]);
            const double rounding = type == DType::kBF16 ? std::abs(y) * 0x1p-8 : 0;
            ASSERT_NEAR(value, y, 1e-5 * size_of(want) + rounding)
                << kernel.name << " k=" << c.k << " group=" << c.group << " rows=" << rows << " at "
                << i / n << ", " << i % n;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace comet::formats
