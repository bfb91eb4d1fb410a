#include "comet/quant/export/dense_weight.h"

#include <algorithm>

#include "comet/base/check.h"
#include "comet/quant/fmpq/rotation.h"
#include "comet/tensor/float8.h"

namespace comet::quant {
namespace {

using formats::Granularity;
using formats::QuantizedWeight;

float code_value(formats::CodeType type, int8_t code) {
  if (type == formats::CodeType::kInt) return code;
  return to_float(Float8E4M3{static_cast<uint8_t>(code)});
}

/// Row `row` in stored order.
void decode_row(const QuantizedWeight& weight, int64_t row, float* out) {
  const int64_t k = weight.site.k_padded;
  const int64_t rows = weight.num_rows();
  const int8_t* codes = weight.codes.data() + row * k;
  for (int64_t i = 0; i < k; ++i) {
    const int64_t group = i / weight.group_size * rows + row;
    const int zero = weight.group_zero.empty() ? 0 : weight.group_zero[group];
    switch (weight.granularity) {
      case Granularity::kChannel:
        out[i] = weight.channel_scale[row] * code_value(weight.code_type, codes[i]);
        break;
      case Granularity::kGroup:
        out[i] = weight.group_scale[group] * static_cast<float>(codes[i] - zero);
        break;
      case Granularity::kProgressive: {
        const int w8 = codes[i] * weight.group_multiplier[group] + weight.group_offset[group];
        out[i] = weight.channel_scale[row] * static_cast<float>(w8);
        break;
      }
    }
  }
}

}  // namespace

Matrix dense_weight(ThreadPool& pool, const QuantizedWeight& weight) {
  const formats::SiteLayout& site = weight.site;
  COMET_CHECK(static_cast<int64_t>(weight.codes.size()) == weight.num_rows() * site.k_padded,
              "{}: {} codes", weight.name, weight.codes.size());
  Matrix stored(weight.num_rows(), site.k_padded);
  pool.parallel_for(stored.rows,
                    [&](int64_t row, int) { decode_row(weight, row, stored.row(row)); });
  rotate_int4_blocks(pool, stored, site);  // its own inverse
  Matrix dense(stored.rows, site.k);
  pool.parallel_for(dense.rows, [&](int64_t row, int) {
    if (site.perm.empty()) {
      std::copy_n(stored.row(row), site.k, dense.row(row));
      return;
    }
    for (int64_t i = 0; i < site.k_padded; ++i) {
      if (site.perm[i] >= 0) dense.row(row)[site.perm[i]] = stored.row(row)[i];
    }
  });
  return dense;
}

}  // namespace comet::quant
