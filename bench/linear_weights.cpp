#include "bench/linear_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "bench/gpu_timer.h"
#include "comet/base/rng.h"
#include "comet/tensor/float8.h"

namespace comet::bench {
namespace {

using formats::Granularity;
using formats::kBlock;
using formats::LinearSpec;
using formats::LinearWeight;
using formats::QuantizedWeight;
using formats::WeightFormat;

class PackedTensors final : public formats::TensorSource {
 public:
  explicit PackedTensors(formats::PackedLinear packed) : packed_(std::move(packed)) {}
  [[nodiscard]] bool contains(std::string_view name) const override {
    return find(name) != nullptr;
  }
  [[nodiscard]] Result<Tensor> get(std::string_view name, std::span<const DType> /*dtypes*/,
                                   const Shape& shape) const override {
    const Tensor* tensor = find(name);
    COMET_CHECK(tensor != nullptr && tensor->shape() == shape, "{}", name);
    return *tensor;
  }
  [[nodiscard]] const formats::PackedLinear& packed() const { return packed_; }

 private:
  [[nodiscard]] const Tensor* find(std::string_view name) const {
    for (const auto& [key, tensor] : packed_.tensors) {
      if (key == name) return &tensor;
    }
    return nullptr;
  }
  formats::PackedLinear packed_;
};

Tensor allocate(DType dtype, const Shape& shape) {
  const auto bytes = static_cast<size_t>(shape.num_elements() * dtype_bytes(dtype));
  return {std::make_shared<Storage>(host_allocator(), bytes), 0, dtype, shape};
}

LinearSpec spec_of(const LinearShape& shape) {
  LinearSpec spec;
  spec.name = "bench.proj";
  spec.prefix = "bench.";
  for (size_t i = 0; i < shape.part_rows.size(); ++i) {
    spec.parts.push_back(fmt::format("p{}", i));
  }
  spec.part_rows = shape.part_rows;
  spec.k = shape.k;
  return spec;
}

/// Gaussian BF16 weights, from a table of quantiles.
formats::PackedLinear dense_tensors(const LinearSpec& spec, uint64_t seed) {
  Rng rng(seed);
  std::vector<uint16_t> table(4096);
  for (uint16_t& value : table) value = to_bfloat16(0.02F * rng.next_normal()).bits;
  formats::PackedLinear packed;
  for (size_t i = 0; i < spec.parts.size(); ++i) {
    Tensor weight = allocate(DType::kBF16, {spec.part_rows[i], spec.k});
    auto* out = reinterpret_cast<uint16_t*>(weight.raw());
    for (int64_t j = 0; j < weight.num_elements(); ++j) out[j] = table[rng.next_bits() % 4096];
    packed.tensors.emplace_back(spec.prefix + spec.parts[i] + ".weight", std::move(weight));
  }
  return packed;
}

/// 4-bit codes have a deviation of 2.7 (absmax of a group of 128 at 7), 8-bit ones of a fourth of
/// their largest value.
std::vector<int8_t> code_table(const LinearBenchOptions& options, bool is_4bit, int low) {
  Rng rng(options.seed, 5);
  std::vector<int8_t> table(4096);
  for (int8_t& code : table) {
    const float x = rng.next_normal();
    if (options.format == "w8a8-fp8") {
      code = static_cast<int8_t>(to_float8_e4m3(x * kMaxFloat8E4M3 / 4).bits);
    } else if (is_4bit) {
      code = static_cast<int8_t>(std::clamp(std::lround(x * 2.7F), -8L, 7L) + 8 + low);
    } else {
      code = static_cast<int8_t>(std::clamp(std::lround(x * 127.0F / 4), -127L, 127L));
    }
  }
  return table;
}

/// Rows repeat after some hundred: that is no slower to read, and large weights are made quickly.
void fill_codes(std::vector<int8_t>& codes, int64_t k, const std::vector<int8_t>& table,
                uint64_t seed) {
  constexpr int64_t kOwnRows = 512;
  Rng rng(seed);
  const auto own = std::min(codes.size(), static_cast<size_t>(kOwnRows * k));
  for (size_t i = 0; i < own; i += 5) {
    uint64_t bits = rng.next_bits();
    for (size_t j = i; j < std::min(i + 5, own); ++j, bits >>= 12) codes[j] = table[bits % 4096];
  }
  for (size_t i = own; i < codes.size(); i += own) {
    std::copy_n(codes.begin(), std::min(own, codes.size() - i),
                codes.begin() + static_cast<int64_t>(i));
  }
}

QuantizedWeight random_codes(const LinearSpec& spec, const LinearBenchOptions& options) {
  const bool w4ax = options.format == "w4ax";
  const bool w4a16 = options.format == "w4a16";
  QuantizedWeight weight;
  weight.name = spec.name;
  weight.parts = spec.parts;
  weight.part_rows = spec.part_rows;
  weight.site.name = "bench.in";
  weight.site.k = spec.k;
  weight.site.k_padded = w4ax ? (spec.k + kBlock - 1) / kBlock * kBlock : spec.k;
  weight.site.scale = options.act_scale;
  weight.granularity = w4a16  ? Granularity::kGroup
                       : w4ax ? options.granularity
                              : Granularity::kChannel;
  const int64_t blocks = weight.site.num_blocks();
  weight.site.int8_blocks =
      static_cast<int64_t>(std::ceil(options.int8_share * static_cast<double>(blocks)));
  if (w4a16) {
    weight.site.scale = formats::ActScale::kA16;
    weight.site.int8_blocks = 0;
  }
  const int64_t rows = weight.num_rows();
  weight.codes.resize(static_cast<size_t>(rows * weight.site.k_padded));
  const int low = weight.granularity == Granularity::kProgressive ? 0 : -8;
  if (options.format == "w8a8-fp8") weight.code_type = formats::CodeType::kE4M3;
  fill_codes(weight.codes, weight.site.k_padded, code_table(options, w4ax || w4a16, low),
             options.seed);
  const auto groups = static_cast<size_t>(blocks * rows);
  if (weight.granularity == Granularity::kGroup) {
    if (w4a16) weight.scale_type = DType::kBF16;  // as `comet quantize` writes for BF16 models
    weight.group_scale.assign(groups, to_float(to_bfloat16(0.004F)));
  } else {
    weight.channel_scale.assign(static_cast<size_t>(rows), 0.004F);
  }
  if (weight.granularity == Granularity::kProgressive) {
    weight.group_multiplier.assign(groups, 8);
    weight.group_offset.assign(groups, -60);
  }
  return weight;
}

Json manifest_of(const WeightFormat& format, const formats::PackedLinear& packed,
                 const LinearBenchOptions& options) {
  if (format.manifest == nullptr) return {};
  formats::ManifestParts parts;
  parts.granularity = options.granularity;
  parts.act_scale = options.act_scale;
  parts.kv_cache = {{"format", "kv16"}, {"rotate", false}, {"window", {0, 0}}};
  parts.sites.push_back(packed.site);
  parts.linears.push_back(packed.linear);
  return format.manifest(parts);
}

Result<LinearWeight> make_linear(const WeightFormat& format, const LinearShape& shape,
                                 const LinearBenchOptions& options) {
  const LinearSpec spec = spec_of(shape);
  if (format.pack == nullptr) {
    return format.bind(spec, nullptr, PackedTensors(dense_tensors(spec, options.seed)));
  }
  auto packed = format.pack(random_codes(spec, options));
  if (!packed) return packed.error();
  auto config = format.parse_config(manifest_of(format, *packed, options), "bench");
  if (!config) return config.error();
  return format.bind(spec, config->get(), PackedTensors(*std::move(packed)));
}

LinearWeight copy_of(const LinearWeight& weight) {
  LinearWeight copy = weight;
  for (Tensor& tensor : copy.tensors) {
    if (!tensor.defined()) continue;
    const Tensor original = tensor;
    tensor = allocate(original.dtype(), original.shape());
    std::memcpy(tensor.raw(), original.raw(), static_cast<size_t>(original.num_bytes()));
  }
  return copy;
}

/// The weight on the GPU as often as rotation needs it; each copy is prepared by itself.
Result<std::vector<LinearWeight>> prepared_copies(Context& ctx, const LinearWeight& weight) {
  std::vector<LinearWeight> copies;
  const int64_t num_copies = num_rotating_buffers(weight.bytes());
  for (int64_t i = 0; i < num_copies; ++i) {
    LinearWeight copy = weight;
    if (weight.backend->prepare != nullptr) {
      if (const Status s = weight.backend->prepare(ctx, copy); !s) return s.error();
    }
    copies.push_back(std::move(copy));
  }
  return copies;
}

}  // namespace

Result<std::vector<LinearWeight>> make_copies(Context& ctx, const LinearShape& shape,
                                              const LinearBenchOptions& options) {
  auto format = formats::find_weight_format(options.format);
  if (!format) return format.error();
  auto weight = make_linear(**format, shape, options);
  if (!weight) return weight.error();
  if (const Status planned = formats::plan_linear(*weight, ctx.caps); !planned) {
    return planned.error();
  }
  if (ctx.cuda != nullptr) return prepared_copies(ctx, *weight);
  std::vector<LinearWeight> copies{*std::move(weight)};
  const int64_t bytes = std::max<int64_t>(copies[0].bytes(), 1);
  while (static_cast<int64_t>(copies.size()) * bytes < options.rotate_bytes) {
    copies.push_back(copy_of(copies[0]));
  }
  return copies;
}

}  // namespace comet::bench
