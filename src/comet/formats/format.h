// WeightFormat: everything Comet knows of one weight format, as a record of functions in one
// folder. nn::Linear is one class for all of them; methods (quant/) decide numbers, formats only
// lay bits. Registered in registry.cpp; one conformance suite runs over every row.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "comet/base/json.h"
#include "comet/base/result.h"
#include "comet/formats/quantized_weight.h"
#include "comet/ops/context.h"
#include "comet/tensor/rows.h"
#include "comet/tensor/tensor.h"

namespace comet::formats {

struct WeightFormat;
struct LinearKernel;

/// One linear of a model, whatever its format: y [rows, n] = x [rows, k] · Wᵀ + bias.
struct LinearSpec {
  std::string name;    // "model.layers.0.self_attn.qkv_proj"; for one part the tensor's own prefix
  std::string prefix;  // "model.layers.0.self_attn."; dense tensors are prefix + part + ".weight"
  std::vector<std::string> parts;  // {"q_proj", "k_proj", "v_proj"}
  std::vector<int64_t> part_rows;
  int64_t k = 0;
  bool has_bias = false;
  bool may_round = false;  // weight and bias may be rounded to the type of the device's products

  [[nodiscard]] int64_t n() const {
    int64_t total = 0;
    for (const int64_t rows : part_rows) total += rows;
    return total;
  }
};

/// Tensors by name, as a checkpoint (or a test) has them.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  [[nodiscard]] virtual bool contains(std::string_view name) const = 0;
  /// The tensor, checked to have this shape and one of these dtypes; the error names file and
  /// tensor.
  [[nodiscard]] virtual Result<Tensor> get(std::string_view name, std::span<const DType> dtypes,
                                           const Shape& shape) const = 0;
};

/// What a format read from quantization_config; each format derives its own.
struct FormatConfig {
  virtual ~FormatConfig() = default;
};

/// Format-private facts of a bound linear (w4ax: its site, granularity, tables).
struct LinearMeta {
  virtual ~LinearMeta() = default;
};

struct FormatBackend;

/// A bound linear: tensors as they lie in the file (on CUDA, once prepared, as the backend wants
/// them), plus the backend and kernel that were planned for it.
struct LinearWeight {
  const WeightFormat* format = nullptr;
  LinearSpec spec;
  std::vector<Tensor> tensors;  // in an order the format defines
  std::shared_ptr<const LinearMeta> meta;
  const LinearKernel* kernel = nullptr;
  const FormatBackend* backend = nullptr;

  /// Bytes that one pass over the weight reads.
  [[nodiscard]] int64_t bytes() const {
    int64_t total = 0;
    for (const Tensor& t : tensors) total += t.defined() ? t.num_bytes() : 0;
    return total;
  }
};

/// The input of a linear as its format wants it; opaque to everyone else. Lives in ctx.arena.
struct Activation {
  int64_t rows = 0;
  std::array<Tensor, 4> parts;
};

/// x += delta (unless that is empty), then x · rsqrt(mean(x²) + eps) · weight, not yet computed:
/// the format's producer runs both.
struct NormInput {
  View<float, 2> x;
  View<const float, 1> weight;
  float eps = 0.0F;
  ConstRows delta = {};
};

/// silu(gate) · up, not yet computed.
struct SiluMulInput {
  ConstRows gate;
  ConstRows up;
};

/// What is done to a product before it is stored.
enum class LinearEnd : uint8_t {
  kPlain,
  kGelu,  // out = GELU(product)
  kAdd,   // out += product
};

/// A row of the table of competing kernels. `run` writes out [rows, n]: FP32, on CUDA also BF16.
struct LinearKernel {
  std::string_view name;  // "w4ax_avx512vnni"
  bool (*supports)(const LinearWeight& weight, const Caps& caps);
  /// Estimated time, to choose among the rows that support the weight.
  double (*cost_us)(const LinearWeight& weight, const Caps& caps);
  void (*run)(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out);
  /// How it cuts the product with so many rows of x, in words; null: not told.
  std::string (*describe)(const LinearWeight& weight, const Caps& caps, int64_t rows) = nullptr;
  /// `run` with its end fused, for linears that may_round; out has the type of products. Null: who
  /// calls runs the steps one by one.
  void (*run_with)(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out,
                   LinearEnd end) = nullptr;
  /// run_with of rows whose input the kernel makes itself, a part at a time. Null: it does not.
  void (*run_rows)(Context& ctx, const LinearWeight& weight, ConstRows x, Rows out,
                   LinearEnd end) = nullptr;
  /// to += fc2(GELU(fc1(x))) of two weights that have this kernel; the bits of run_rows twice.
  /// Null: who calls runs the two.
  void (*run_mlp)(Context& ctx, const LinearWeight& fc1, const LinearWeight& fc2, ConstRows x,
                  Rows to) = nullptr;
};

/// What `pack` makes: tensors to be written, and the rows of quantization_config that describe
/// them.
struct PackedLinear {
  std::vector<std::pair<std::string, Tensor>> tensors;
  Json site;    // null when the format has no sites
  Json linear;  // null likewise
};

/// What reports say of a quantized linear: names as in docs/formats.md, blocks of its input.
struct LinearTraits {
  std::string_view act_scale;
  std::string_view w4;
  int64_t int4_blocks = 0;
  int64_t blocks = 0;
};

/// What quantization_config says of a whole model; a format writes the parts that it keeps.
struct ManifestParts {
  Granularity granularity = Granularity::kGroup;
  ActScale act_scale = ActScale::kS2;
  bool int8_lm_head = false;
  Json kv_cache;                 // {"format", "rotate", "window"}
  Json sites = Json::array();    // PackedLinear::site of every linear
  Json linears = Json::array();  // PackedLinear::linear likewise
};

/// What a format does on one kind of device.
struct FormatBackend {
  // Producers of the input: where fusion lives.
  Activation (*input_from_rows)(Context& ctx, const LinearWeight& weight, ConstRows x) = nullptr;
  Activation (*input_from_norm)(Context& ctx, const LinearWeight& weight,
                                const NormInput& input) = nullptr;
  Activation (*input_from_silu_mul)(Context& ctx, const LinearWeight& weight,
                                    const SiluMulInput& input) = nullptr;
  std::span<const LinearKernel> kernels = {};
  /// Moves a planned weight to the device and lays it as the kernels read it; nullptr: as it is.
  Status (*prepare)(Context& ctx, LinearWeight& weight) = nullptr;
};

struct WeightFormat {
  std::string_view name;  // as --format and the checkpoint say it
  int version;
  /// Reads and checks quantization_config (null for dense); `source` names the file.
  Result<std::shared_ptr<const FormatConfig>> (*parse_config)(const Json& quantization_config,
                                                              const std::string& source);
  /// Finds the linear's tensors; does not convert.
  Result<LinearWeight> (*bind)(const LinearSpec& spec, const FormatConfig* config,
                               const TensorSource& tensors);
  Result<PackedLinear> (*pack)(const QuantizedWeight& weight);    // null for dense
  Result<QuantizedWeight> (*unpack)(const LinearWeight& weight);  // exact inverse of pack
  /// Scalar, from the definition; out [rows, n].
  void (*reference_linear)(const LinearWeight& weight, const Activation& x, View<float, 2> out);
  FormatBackend cpu;
  FormatBackend cuda;  // without kernels where the format or the build has none
  /// nullptr where there is nothing to say.
  LinearTraits (*traits)(const LinearWeight& weight) = nullptr;
  /// quantization_config as parse_config reads it; nullptr where no whole model has the format.
  Json (*manifest)(const ManifestParts& parts) = nullptr;
  // How quantization_config names it; disk_format is empty where no checkpoint does.
  std::string_view quant_method = "comet";
  std::string_view disk_format = {};
};

std::span<const WeightFormat* const> weight_formats();
Result<const WeightFormat*> find_weight_format(std::string_view name);

/// By the names in quantization_config.
Result<const WeightFormat*> find_disk_format(std::string_view quant_method,
                                             std::string_view disk_format);

/// Sets weight.backend to the device's, and weight.kernel to its cheapest row that supports the
/// weight; an error that lists what exists when there is none.
Status plan_linear(LinearWeight& weight, const Caps& caps);

/// x += delta (unless it is empty), then out = norm(x): what CPU producers begin with.
void norm_rows(Context& ctx, View<float, 2> out, const NormInput& input);

}  // namespace comet::formats
