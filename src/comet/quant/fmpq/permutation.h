// The stored order of a site's channels (docs/formats.md §2.3, §2.4): [INT4 blocks | INT8 blocks],
// ascending p99.9, padded with zero channels at the end of the INT4 segment; and how many INT8
// blocks a wished share of the multiply-accumulates takes. Callers: layer_quantizer, recipes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "comet/base/result.h"
#include "comet/device/thread_pool.h"
#include "comet/formats/quantized_weight.h"
#include "comet/quant/matrix.h"

namespace comet::quant {

/// Channels by ascending magnitude; equal ones by ascending index.
std::vector<int32_t> ascending_order(std::span<const float> magnitudes);

struct SiteShape {
  int64_t rows = 0;  // output channels of the linear
  int64_t k = 0;
  [[nodiscard]] int64_t num_blocks() const { return (k + formats::kBlock - 1) / formats::kBlock; }
};

/// INT8 blocks of every site for a share of the multiply-accumulates in [0, 1]: the same fraction
/// everywhere, then single blocks where the site lags most (ties: the earlier site) until the share
/// is reached.
Result<std::vector<int64_t>> plan_int8_blocks(std::span<const SiteShape> sites, double share);

/// name, k, k_padded, int8_blocks, scale and perm of the layout (empty when identity). Sorted by
/// p999 when `sorted`; a site with INT8 blocks only keeps the model's order. S2h: sorted position p
/// of the INT4 segment goes to block p mod nb, slot ⌊p/nb⌋.
formats::SiteLayout make_site_layout(const std::string& name, std::span<const float> p999,
                                     int64_t int8_blocks, formats::ActScale scale, bool sorted);

/// Moves the order of `layout` into the producer: returns the source channel of every output row
/// the producer must now have (empty when identity), and leaves in layout.perm only the padding.
std::vector<int32_t> absorb_order(formats::SiteLayout& layout);

/// Rows of `weight` (and of `bias`, unless empty) in [begin, begin + order.size()) reordered: row i
/// becomes the old row begin + order[i].
void permute_rows(Matrix& weight, std::vector<float>& bias, int64_t begin,
                  std::span<const int32_t> order);

/// Column order[i] of every row becomes column i.
void permute_columns(ThreadPool& pool, Matrix& rows, std::span<const int32_t> order);

/// [rows, k_padded]: columns in stored order, zero where the layout pads.
Matrix stored_columns(ThreadPool& pool, const Matrix& weight, const formats::SiteLayout& layout);

}  // namespace comet::quant
