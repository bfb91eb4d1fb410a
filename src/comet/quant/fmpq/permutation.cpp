#include "comet/quant/fmpq/permutation.h"

#include <algorithm>
#include <numeric>

#include "comet/base/check.h"

namespace comet::quant {
namespace {

using formats::ActScale;
using formats::kBlock;
using formats::SiteLayout;

constexpr int32_t kPadding = -1;

/// Stored positions of the INT4 segment in the order in which sorted channels take them: block by
/// block, or dealt over the blocks (S2h). The last positions of the segment are padding.
std::vector<int64_t> int4_positions(int64_t num_blocks, int64_t num_channels, bool dealt) {
  std::vector<int64_t> positions;
  positions.reserve(num_channels);
  if (!dealt) {
    for (int64_t p = 0; p < num_channels; ++p) positions.push_back(p);
    return positions;
  }
  for (int64_t slot = 0; slot < kBlock; ++slot) {
    for (int64_t block = 0; block < num_blocks; ++block) {
      const int64_t position = block * kBlock + slot;
      if (position < num_channels) positions.push_back(position);
    }
  }
  return positions;
}

bool is_identity(const std::vector<int32_t>& perm) {
  for (size_t i = 0; i < perm.size(); ++i) {
    if (perm[i] != static_cast<int32_t>(i)) return false;
  }
  return true;
}

}  // namespace

std::vector<int32_t> ascending_order(std::span<const float> magnitudes) {
  std::vector<int32_t> order(magnitudes.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return magnitudes[a] < magnitudes[b]; });
  return order;
}

Result<std::vector<int64_t>> plan_int8_blocks(std::span<const SiteShape> sites, double share) {
  if (!(share >= 0.0 && share <= 1.0)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--int8-share {}: expected a share of the multiply-accumulates from 0 to 1",
                      share);
  }
  std::vector<int64_t> blocks(sites.size());
  int64_t all_work = 0;
  int64_t int8_work = 0;
  for (size_t i = 0; i < sites.size(); ++i) {
    blocks[i] = static_cast<int64_t>(share * static_cast<double>(sites[i].num_blocks()));
    all_work += sites[i].rows * sites[i].num_blocks();
    int8_work += sites[i].rows * blocks[i];
  }
  const double wanted = share * static_cast<double>(all_work) * (1.0 - 1e-12);
  while (static_cast<double>(int8_work) < wanted) {
    size_t lagging = sites.size();
    double least = 1.0;
    for (size_t i = 0; i < sites.size(); ++i) {
      const double fraction =
          static_cast<double>(blocks[i]) / static_cast<double>(sites[i].num_blocks());
      if (fraction < least) {
        least = fraction;
        lagging = i;
      }
    }
    COMET_CHECK(lagging < sites.size(), "no block left at share {}", share);
    ++blocks[lagging];
    int8_work += sites[lagging].rows;
  }
  return blocks;
}

SiteLayout make_site_layout(const std::string& name, std::span<const float> p999,
                            int64_t int8_blocks, ActScale scale, bool sorted) {
  SiteLayout layout;
  layout.name = name;
  layout.k = static_cast<int64_t>(p999.size());
  layout.k_padded = (layout.k + kBlock - 1) / kBlock * kBlock;
  layout.int8_blocks = int8_blocks;
  layout.scale = scale;
  const int64_t num_blocks = layout.num_blocks();
  COMET_CHECK(int8_blocks >= 0 && int8_blocks <= num_blocks, "{}: {} of {} INT8 blocks", name,
              int8_blocks, num_blocks);
  std::vector<int32_t> order(layout.k);
  std::iota(order.begin(), order.end(), 0);
  const bool mixed = int8_blocks < num_blocks;
  if (sorted && mixed) order = ascending_order(p999);

  layout.perm.assign(layout.k_padded, kPadding);
  const int64_t num_int8 = mixed ? int8_blocks * kBlock : 0;
  const int64_t num_int4 = layout.k - num_int8;
  const bool dealt = sorted && mixed && scale == ActScale::kS2h;
  const std::vector<int64_t> positions =
      int4_positions(num_blocks - (mixed ? int8_blocks : 0), num_int4, dealt);
  for (int64_t p = 0; p < num_int4; ++p) layout.perm[positions[p]] = order[p];
  for (int64_t p = 0; p < num_int8; ++p) {
    layout.perm[layout.k_padded - num_int8 + p] = order[num_int4 + p];
  }
  if (is_identity(layout.perm)) layout.perm.clear();
  return layout;
}

std::vector<int32_t> absorb_order(SiteLayout& layout) {
  if (layout.perm.empty()) return {};
  std::vector<int32_t> order;
  order.reserve(layout.k);
  for (int32_t& source : layout.perm) {
    if (source == kPadding) continue;
    order.push_back(source);
    source = static_cast<int32_t>(order.size()) - 1;
  }
  if (is_identity(layout.perm)) layout.perm.clear();
  if (is_identity(order)) order.clear();
  return order;
}

void permute_rows(Matrix& weight, std::vector<float>& bias, int64_t begin,
                  std::span<const int32_t> order) {
  const auto count = static_cast<int64_t>(order.size());
  if (count == 0) return;
  COMET_CHECK(begin + count <= weight.rows, "rows {} + {} of {}", begin, count, weight.rows);
  const std::vector<float> old(weight.row(begin), weight.row(begin) + count * weight.cols);
  for (int64_t i = 0; i < count; ++i) {
    std::copy_n(old.data() + order[i] * weight.cols, weight.cols, weight.row(begin + i));
  }
  if (bias.empty()) return;
  const std::vector<float> old_bias(bias.begin() + begin, bias.begin() + begin + count);
  for (int64_t i = 0; i < count; ++i) bias[begin + i] = old_bias[order[i]];
}

void permute_columns(ThreadPool& pool, Matrix& rows, std::span<const int32_t> order) {
  pool.parallel_for(rows.rows, [&](int64_t t, int) {
    const std::vector<float> old(rows.row(t), rows.row(t) + rows.cols);
    for (int64_t c = 0; c < rows.cols; ++c) rows.row(t)[c] = old[order[c]];
  });
}

Matrix stored_columns(ThreadPool& pool, const Matrix& weight, const SiteLayout& layout) {
  COMET_CHECK(weight.cols == layout.k, "{}: {} columns for {} channels", layout.name, weight.cols,
              layout.k);
  if (layout.perm.empty() && layout.k == layout.k_padded) return weight;
  Matrix stored(weight.rows, layout.k_padded);
  pool.parallel_for(weight.rows, [&](int64_t n, int) {
    const float* from = weight.row(n);
    float* to = stored.row(n);
    for (int64_t j = 0; j < layout.k_padded; ++j) {
      const int64_t source = layout.perm.empty() ? (j < layout.k ? j : kPadding) : layout.perm[j];
      if (source != kPadding) to[j] = from[source];
    }
  });
  return stored;
}

}  // namespace comet::quant
