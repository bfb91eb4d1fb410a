// tile128 by the text of docs/formats.md §4: walks the bytes in order and asks which weight each
// nibble must be, the other way round from layout.h.
#include "comet/formats/w4ax/layout.h"

#include <gtest/gtest.h>

#include "comet/formats/w4ax/w4ax.h"
#include "support/linear_samples.h"

namespace comet::formats::w4ax {
namespace {

using ::comet::testing::random_w4ax;

/// Code of stored row and channel; 0 for rows that pad a part to a multiple of 128.
int stored_code(const QuantizedWeight& w, int64_t stored_row, int64_t k) {
  int64_t begin = 0;
  int64_t row = 0;
  for (const int64_t rows : w.part_rows) {
    const int64_t padded = (rows + 127) / 128 * 128;
    if (stored_row < begin + padded) {
      const int64_t i = stored_row - begin;
      if (i >= rows) return 0;
      return w.codes[static_cast<size_t>((row + i) * w.site.k_padded + k)];
    }
    begin += padded;
    row += rows;
  }
  ADD_FAILURE() << "row " << stored_row;
  return 0;
}

/// Checks the 512 bytes of one unit, whose first row and channel these are.
void check_unit(const QuantizedWeight& w, const uint8_t* at, int64_t first_row, int64_t first_k) {
  for (int lane = 0; lane < 32; ++lane) {
    for (int r = 0; r < 4; ++r) {
      for (int j = 0; j < 4; ++j, ++at) {
        const int64_t row = first_row + lane / 4 + 8 * (r & 1);
        const int64_t k = first_k + (r >= 2 ? 16 : 0) + 4 * (lane % 4) + j;
        ASSERT_EQ(*at & 15, stored_code(w, row, k) & 15) << row << " " << k;
        ASSERT_EQ(*at >> 4, stored_code(w, row, k + 32) & 15) << row << " " << k + 32;
      }
    }
  }
}

TEST(Tile128, EveryNibbleIsTheWeightTheTextNames) {
  const QuantizedWeight w = random_w4ax({.part_rows = {150, 128, 3}, .k = 300}, 4);
  const PackedLinear packed = *pack(w);
  const Tensor& bytes = packed.tensors[0].second;
  ASSERT_EQ(packed.tensors[0].first, "model.layers.0.self_attn.qkv_proj.weight_packed");
  ASSERT_EQ(bytes.shape(), Shape({4, 3, 8192}));
  const uint8_t* at = bytes.data<uint8_t>();
  for (int64_t tile = 0; tile < 4 * 3; ++tile) {
    for (int64_t half = 0; half < 2; ++half) {
      for (int64_t unit = 0; unit < 8; ++unit, at += 512) {
        check_unit(w, at, tile / 3 * 128 + unit * 16, tile % 3 * 128 + half * 64);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(Tile128, EveryWeightHasANibbleOfItsOwn) {
  std::vector<bool> taken(static_cast<size_t>(2 * 256 * 256 / 2), false);
  for (int64_t row = 0; row < 256; ++row) {
    for (int64_t k = 0; k < 256; ++k) {
      const NibblePosition p = nibble_position(row, k, 2);
      const auto idx = static_cast<size_t>(2 * p.byte + (p.shift == 4 ? 1 : 0));
      ASSERT_LT(idx, taken.size());
      ASSERT_FALSE(taken[idx]);
      taken[idx] = true;
    }
  }
}

TEST(Pack, ShapesNamesAndSizes) {
  const QuantizedWeight w = random_w4ax({.part_rows = {150, 128, 3},
                                         .k = 300,
                                         .int8_blocks = 1,
                                         .granularity = Granularity::kProgressive,
                                         .has_bias = true},
                                        5);
  const PackedLinear packed = *pack(w);
  const std::string linear = "model.layers.0.self_attn.qkv_proj";
  const std::vector<std::pair<std::string, Shape>> expected{
      {linear + ".weight_packed", {4, 3, 8192}},
      {linear + ".weight_scale", {512}},
      {linear + ".group_scale", {3, 512}},
      {linear + ".group_offset", {3, 512}},
      {linear + ".bias", {281}},
      {"model.layers.0.self_attn.qkv_in.perm", {384}}};
  ASSERT_EQ(packed.tensors.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(packed.tensors[i].first, expected[i].first);
    EXPECT_EQ(packed.tensors[i].second.shape(), expected[i].second) << expected[i].first;
  }
  EXPECT_EQ(packed_size(w.part_rows, 384), packed.tensors[0].second.num_bytes());
  EXPECT_EQ(packed.site.dump(), R"({"clip":0.9,"int8_blocks":1,"k":300,"k_padded":384,)"
                                R"("name":"model.layers.0.self_attn.qkv_in"})");
  EXPECT_EQ(packed.linear["rows"], Json({150, 128, 3}));
}

TEST(Pack, RefusesScalesThatAreNotFinite) {
  QuantizedWeight w = random_w4ax({}, 6);
  w.channel_scale[3] = HUGE_VALF;
  const auto packed = pack(w);
  ASSERT_FALSE(packed.ok());
  EXPECT_NE(packed.error().message.find("qkv_proj"), std::string::npos) << packed.error().message;
}

TEST(Pack, ACodeOutOfRangeIsABug) {
  QuantizedWeight w = random_w4ax({}, 6);
  w.codes[0] = 8;
  EXPECT_THROW(static_cast<void>(pack(w)), CheckError);
  w.codes[0] = 0;
  w.codes.pop_back();
  EXPECT_THROW(static_cast<void>(pack(w)), CheckError);
}

}  // namespace
}  // namespace comet::formats::w4ax
