#include "comet/models/synthetic/random_tensors.h"

#include <algorithm>

#include "comet/base/hash.h"
#include "comet/base/rng.h"
#include "comet/ops/fill/fill.h"

namespace comet::models {
namespace {

constexpr float kStddev = 0.02F;  // of every weight
// Standard deviations of codes: uniform 4-bit ones, s8 in [−127, 127], E4M3 in ±[½, 2).
constexpr float kNibbleStddev = 4.6F;
constexpr float kInt8Stddev = 73.6F;
constexpr float kE4M3Stddev = 1.16F;
// w8 = u·g + o is (u − 7.5)·g: it stays within [−60, 60].
constexpr uint8_t kMultiplier = 8;
constexpr int8_t kOffset = -60;
constexpr std::string_view kEmbedding = "model.embed_tokens.weight";
constexpr std::string_view kHead = "lm_head.";

/// The stream that a tensor's name draws from.
uint64_t stream_of(std::string_view name) {
  Fnv1a hash;
  hash.add(name);
  return hash.value();
}

Tensor gaussian_table(Context& ctx, uint64_t seed) {
  const Tensor table = allocate_tensor(host_allocator(), DType::kBF16, {kRandomTableSize});
  Rng rng(seed, 1);
  for (int64_t i = 0; i < kRandomTableSize; ++i) {
    table.data<BFloat16>()[i] = to_bfloat16(kStddev * rng.next_normal());
  }
  return copy_to_device(ctx, table);
}

Tensor constant(DType dtype, const Shape& shape, float value) {
  Tensor tensor = allocate_tensor(host_allocator(), dtype, shape);
  const int64_t size = tensor.num_elements();
  switch (dtype) {
    case DType::kF32:
      std::fill_n(tensor.data<float>(), size, value);
      break;
    case DType::kF16:
      std::fill_n(tensor.data<Float16>(), size, to_float16(value));
      break;
    case DType::kBF16:
      std::fill_n(tensor.data<BFloat16>(), size, to_bfloat16(value));
      break;
    default:
      COMET_CHECK(dtype_bytes(dtype) == 1, "a constant {}", dtype_name(dtype));
      std::fill_n(reinterpret_cast<int8_t*>(tensor.raw()), size, static_cast<int8_t>(value));
  }
  return tensor;
}

std::string_view suffix_of(std::string_view name) { return name.substr(name.rfind('.') + 1); }

}  // namespace

RandomTensors::RandomTensors(Context& ctx, const io::ModelConfig& config,
                             const SyntheticOptions& options)
    : ctx_(ctx),
      options_(options),
      has_head_(options.int8_lm_head || !config.tie_word_embeddings),
      gaussian_(gaussian_table(ctx, options.seed)) {
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    for (const formats::LinearSpec& spec : llama_linear_specs(config, layer)) {
      for (size_t i = 0; i < spec.parts.size(); ++i) {
        matrices_[spec.prefix + spec.parts[i]] = {spec.part_rows[i], spec.k};
      }
    }
  }
}

bool RandomTensors::contains(std::string_view name) const {
  const std::string_view suffix = suffix_of(name);
  for (const std::string_view optional : {"perm", "weight_g_idx", "weight_zero_point"}) {
    if (suffix == optional) return false;  // formats do without
  }
  return has_head_ || !name.starts_with(kHead);
}

Result<Tensor> RandomTensors::get(std::string_view name, std::span<const DType> dtypes,
                                  const Shape& shape) const {
  if (!contains(name)) {
    return make_error(ErrorCode::kNotFound, "a synthetic model has no tensor '{}'", name);
  }
  const DType dtype = dtypes.front();
  const std::string_view suffix = suffix_of(name);
  if (suffix == "weight_shape") return weight_shape(name, dtype);
  if (suffix == "weight_scale") return constant(dtype, shape, weight_scale(name));
  if (suffix == "group_scale") return constant(dtype, shape, kMultiplier);
  if (suffix == "group_offset") return constant(dtype, shape, kOffset);
  if (suffix == "bias") return constant(dtype, shape, kStddev);
  if (suffix == "weight" && shape.rank() == 1) return constant(dtype, shape, 1.0F);  // norms
  COMET_CHECK(suffix == "weight" || suffix == "weight_packed", "'{}' is drawn by no rule", name);
  if (name != kEmbedding) return random(name, dtype, shape);
  if (!embedding_.defined()) embedding_ = random(name, dtype, shape);
  return embedding_;
}

Tensor RandomTensors::random(std::string_view name, DType dtype, const Shape& shape) const {
  RandomFill fill;
  fill.seed = options_.seed;
  fill.stream = stream_of(name);
  if (suffix_of(name) == "weight_packed") {
    fill.kind = RandomKind::kNibbles;
  } else if (dtype == DType::kBF16) {
    fill.kind = RandomKind::kTable16;
    fill.table = gaussian_;
  } else {
    fill.kind = dtype == DType::kF8E4M3 ? RandomKind::kE4M3 : RandomKind::kS8;
  }
  Tensor tensor = allocate_tensor(ctx_.memory, dtype, shape);
  random_fill(ctx_, tensor, fill);
  return tensor;
}

Result<Tensor> RandomTensors::weight_shape(std::string_view name, DType dtype) const {
  COMET_CHECK(dtype == DType::kI64, "'{}' as {}", name, dtype_name(dtype));
  const auto found = matrices_.find(name.substr(0, name.rfind('.')));
  COMET_CHECK(found != matrices_.end(), "'{}' is of no linear", name);
  Tensor tensor = allocate_tensor(host_allocator(), dtype, {2});
  std::copy_n(found->second.begin(), 2, tensor.data<int64_t>());
  return tensor;
}

float RandomTensors::weight_scale(std::string_view name) const {
  if (name.starts_with(kHead) || options_.format == "w8a8-int") return kStddev / kInt8Stddev;
  if (options_.format == "w8a8-fp8") return kStddev / kE4M3Stddev;
  const bool progressive =
      options_.format == "w4ax" && options_.granularity == formats::Granularity::kProgressive;
  return kStddev / kNibbleStddev / (progressive ? kMultiplier : 1);
}

}  // namespace comet::models
