// Format "w4ax" (docs/formats.md §1, §2, §4): 4-bit weights in tile128 packing, activations of 4
// and 8 bits by blocks of 128 channels. Called through the registry.
// tensors: see TensorSlot. Activation parts: see ActivationSlot.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "comet/formats/format.h"

namespace comet::formats {

const WeightFormat& w4ax_format();
/// Without kernels in a build without CUDA.
const FormatBackend& w4ax_cuda_backend();

namespace w4ax {

constexpr int kVersion = 1;
constexpr int64_t kMaxChannels = 131072;  // headroom of int32 sums
constexpr int64_t kMaxRows = int64_t{1} << 24;

/// Order of LinearWeight::tensors; those that a granularity lacks are undefined.
enum TensorSlot { kPacked, kChannelScale, kGroupScale, kMultiplier, kOffset, kBias, kNumTensors };
/// Order of Activation::parts: codes I8 [rows, k_padded] in stored order (A4 values in bytes);
/// scales F32 [rows, num_blocks] (S1) or [rows, 2] = (INT4 segment, INT8 segment); sums of codes
/// I32 [rows, num_blocks].
enum ActivationSlot { kCodes, kScales, kBlockSums };

/// One entry of "linears".
struct LinearEntry {
  std::string site;
  std::vector<std::string> parts;
  std::vector<int64_t> rows;
};

/// quantization_config, every field checked.
struct Config : FormatConfig {
  std::string source;  // config.json's path
  Granularity granularity = Granularity::kChannel;
  ActScale act_scale = ActScale::kS2;
  std::string kv_format = "kv16";
  bool kv_rotate = false;
  int64_t kv_window_first = 0;
  int64_t kv_window_last = 0;
  bool lm_head_int8 = false;
  std::vector<std::pair<std::string, SiteLayout>> sites;     // sorted by name; perm empty
  std::vector<std::pair<std::string, LinearEntry>> linears;  // sorted by name

  [[nodiscard]] const SiteLayout* find_site(std::string_view name) const;
  [[nodiscard]] const LinearEntry* find_linear(std::string_view name) const;
};

/// 128 stored rows and where they go.
struct RowTile {
  int64_t column = 0;    // output channel of the first row
  int64_t num_rows = 0;  // rows beyond are padding
};

struct Meta : LinearMeta {
  SiteLayout site;
  Granularity granularity = Granularity::kChannel;
  std::vector<RowTile> tiles;
  [[nodiscard]] int64_t num_stored_rows() const { return static_cast<int64_t>(tiles.size()) * 128; }
};

const Meta& meta_of(const LinearWeight& weight);
std::vector<RowTile> row_tiles(std::span<const int64_t> part_rows);

// The parts of the record, one file each.
Result<std::shared_ptr<const FormatConfig>> parse_config(const Json& quantization_config,
                                                         const std::string& source);
Json manifest(const ManifestParts& parts);
Result<PackedLinear> pack(const QuantizedWeight& weight);
/// The rows of quantization_config that pack() makes; of a weight with or without codes.
void describe(const QuantizedWeight& weight, PackedLinear& packed);
Result<QuantizedWeight> unpack(const LinearWeight& weight);
/// Bytes of the packed nibbles of these parts.
int64_t packed_size(std::span<const int64_t> part_rows, int64_t k_padded);
Activation input_from_rows(Context& ctx, const LinearWeight& weight, ConstRows x);
Activation input_from_norm(Context& ctx, const LinearWeight& weight, const NormInput& input);
Activation input_from_silu_mul(Context& ctx, const LinearWeight& weight, const SiluMulInput& input);
void reference_linear(const LinearWeight& weight, const Activation& x, View<float, 2> out);
std::span<const LinearKernel> kernels();

}  // namespace w4ax
}  // namespace comet::formats
