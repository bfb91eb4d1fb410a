// For the tests of this folder: what downloaded pages hold, in FP32, by page_map.h alone; a ragged
// case in pages of a GPU; and dispatch from (format, head_dim) to templates.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "comet/device/cpu/f16_scalar.h"
#include "comet/kv/cuda/append/append.h"
#include "comet/kv/cuda/page_map.h"
#include "comet/kv/kv16/kv16.h"
#include "comet/kv/kv4/kv4.h"
#include "comet/kv/kv8/kv8.h"
#include "comet/kv/ragged_case.h"
#include "support/gpu.h"

namespace comet::kv::testing {

using comet::testing::DeviceArray;

struct NamedFormat {
  PageFormat page;
  const KvFormat* format;
};
inline std::vector<NamedFormat> all_page_formats() {
  return {{PageFormat::kKv16, &kv16_format()},
          {PageFormat::kKv8, &kv8_format()},
          {PageFormat::kKv4, &kv4_format()}};
}

inline float bf16_to_f32(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float x;
  std::memcpy(&x, &wide, sizeof(x));
  return x;
}
inline uint16_t f32_to_bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  if (x != x) return 0x7FC0;
  return static_cast<uint16_t>((bits + 0x7FFFU + (bits >> 16 & 1U)) >> 16);
}
inline std::vector<uint16_t> to_bf16(const std::vector<float>& x) {
  std::vector<uint16_t> bits;
  for (const float value : x) bits.push_back(f32_to_bf16(value));
  return bits;
}

/// One row of K or V as FP32.
template <PageFormat kFormat, int kDim>
void read_row_of(float* out, const uint8_t* part, int row, bool is_value) {
  using Map = PageMap<kFormat, kDim>;
  const auto half_at = [&](int64_t byte) {
    uint16_t bits;
    std::memcpy(&bits, part + byte, sizeof(bits));
    return bits;
  };
  const int64_t params = Map::kCodesBytes + int64_t{row} * Map::kParamBytes;
  for (int d = 0; d < kDim; ++d) {
    const int byte = is_value ? Map::value_byte(row, d) : Map::key_byte(row, d);
    if constexpr (kFormat == PageFormat::kKv16) {
      out[d] = bf16_to_f32(half_at(byte));
    } else if constexpr (kFormat == PageFormat::kKv8) {
      out[d] = static_cast<float>(part[byte] - 128) * simd::f16_to_f32(half_at(params));
    } else {
      const int code = part[byte] >> (d % 2 * 4) & 15;
      out[d] = std::fma(simd::f16_to_f32(half_at(params)), static_cast<float>(code),
                        simd::f16_to_f32(half_at(params + 2)));
    }
  }
}

/// Calls f with a PageMap.
template <typename F>
void with_map(PageFormat format, int64_t head_dim, const F& f) {
  const auto of = [&](auto dim) {
    constexpr int kDim = decltype(dim)::value;
    if (format == PageFormat::kKv16) f(PageMap<PageFormat::kKv16, kDim>());
    if (format == PageFormat::kKv8) f(PageMap<PageFormat::kKv8, kDim>());
    if (format == PageFormat::kKv4) f(PageMap<PageFormat::kKv4, kDim>());
  };
  if (head_dim == 64) of(std::integral_constant<int, 64>());
  if (head_dim == 128) of(std::integral_constant<int, 128>());
}

inline void read_row(PageFormat format, int64_t head_dim, float* out, const uint8_t* part, int row,
                     bool is_value) {
  const auto of = [&](auto dim) {
    constexpr int kDim = decltype(dim)::value;
    if (format == PageFormat::kKv16) {
      read_row_of<PageFormat::kKv16, kDim>(out, part, row, is_value);
    } else if (format == PageFormat::kKv8) {
      read_row_of<PageFormat::kKv8, kDim>(out, part, row, is_value);
    } else {
      read_row_of<PageFormat::kKv4, kDim>(out, part, row, is_value);
    }
  };
  if (head_dim == 64) of(std::integral_constant<int, 64>());
  if (head_dim == 128) of(std::integral_constant<int, 128>());
}

/// Row slot of each token of sequences [0, tables.size()), one after another.
inline std::vector<int32_t> slots_of(const RaggedCase& c) {
  std::vector<int32_t> slots;
  for (size_t s = 0; s < c.seqs.size(); ++s) {
    for (int32_t t = 0; t < c.seqs[s].kv_len; ++t) {
      slots.push_back(c.tables[s][static_cast<size_t>(t / kPageRows)] * kPageRows + t % kPageRows);
    }
  }
  return slots;
}

/// A case's K and V in pages of the GPU, all other bytes poison.
class DevicePages {
 public:
  DevicePages(const RaggedCase& c, const NamedFormat& format)
      : case_(c),
        format_(format),
        page_bytes_(format.format->page_bytes(c.shape())),
        pages_(static_cast<size_t>(c.num_pages * page_bytes_)),
        num_saturated_(std::vector<uint64_t>{0}) {}

  void encode(cudaStream_t stream) {
    const auto joined = [](const std::vector<std::vector<float>>& parts) {
      std::vector<float> all;
      for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
      return all;
    };
    const DeviceArray<float> k(joined(case_.k));
    const DeviceArray<float> v(joined(case_.v));
    const std::vector<int32_t> host_slots = slots_of(case_);
    const DeviceArray<int32_t> slots(host_slots);
    EncodeRowsParams params;
    params.k = k.get();
    params.v = v.get();
    params.slots = slots.get();
    params.pages = pages_.get();
    params.num_saturated = num_saturated_.get();
    params.num_tokens = static_cast<int>(host_slots.size());
    params.num_kv_heads = static_cast<int>(case_.kv_heads);
    COMET_CUDA(launch_encode_rows(params, format_.page, static_cast<int>(case_.head_dim), stream));
    COMET_CUDA(cudaStreamSynchronize(stream));
  }

  /// As RaggedCase has them: per sequence, [kv_len, kv_heads, head_dim].
  void read(std::vector<std::vector<float>>& k, std::vector<std::vector<float>>& v) const {
    const std::vector<uint8_t> bytes = pages_.to_host();
    int64_t part_bytes = 0;
    with_map(format_.page, case_.head_dim,
             [&](auto map) { part_bytes = decltype(map)::kPartBytes; });
    for (size_t s = 0; s < case_.seqs.size(); ++s) {
      k.emplace_back(case_.k[s].size(), NAN);
      v.emplace_back(case_.v[s].size(), NAN);
      for (int32_t t = 0; t < case_.seqs[s].kv_len; ++t) {
        const int64_t page = case_.tables[s][static_cast<size_t>(t / kPageRows)];
        for (int64_t h = 0; h < case_.kv_heads; ++h) {
          const uint8_t* head = bytes.data() + page * page_bytes_ + h * 2 * part_bytes;
          const int64_t row = (t * case_.kv_heads + h) * case_.head_dim;
          read_row(format_.page, case_.head_dim, k[s].data() + row, head, t % kPageRows, false);
          read_row(format_.page, case_.head_dim, v[s].data() + row, head + part_bytes,
                   t % kPageRows, true);
        }
      }
    }
  }

  [[nodiscard]] uint8_t* get() const { return pages_.get(); }
  [[nodiscard]] int64_t page_bytes() const { return page_bytes_; }
  [[nodiscard]] uint64_t num_saturated() const { return num_saturated_.to_host()[0]; }

 private:
  const RaggedCase& case_;
  NamedFormat format_;
  int64_t page_bytes_;
  DeviceArray<uint8_t> pages_;
  DeviceArray<uint64_t> num_saturated_;
};

}  // namespace comet::kv::testing
