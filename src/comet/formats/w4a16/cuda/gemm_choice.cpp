// The table behind measured_plan().
#include "comet/formats/w4a16/cuda/gemm_choice.h"

#include <algorithm>
#include <iterator>

namespace comet::formats::w4a16_cuda {
namespace {

constexpr int kMeasuredSms = 132;

struct Measured {
  int32_t rows, n, k;
  TileShape shape;
  int32_t num_splits;
};

/// Of bench/results/h200/2026-11-26-w4a16-wgmma-plans.json (gemm_choice_test.cpp).
constexpr Measured kMeasured[] = {
    {16, 4096, 4096, TileShape::kHalf, 6},    {16, 4096, 14336, TileShape::kTall, 128},
    {16, 6144, 4096, TileShape::kHalf, 4},    {16, 8192, 8192, TileShape::kTall, 128},
    {16, 8192, 28672, TileShape::kTall, 128}, {16, 10240, 8192, TileShape::kTall, 132},
    {16, 28672, 4096, TileShape::kTall, 112}, {16, 57344, 8192, TileShape::kTall, 132},
    {32, 4096, 4096, TileShape::kHalf, 6},    {32, 4096, 14336, TileShape::kTall, 128},
    {32, 6144, 4096, TileShape::kHalf, 4},    {32, 8192, 8192, TileShape::kTall, 128},
    {32, 8192, 28672, TileShape::kTall, 128}, {32, 10240, 8192, TileShape::kTall, 132},
    {32, 28672, 4096, TileShape::kTall, 112}, {32, 57344, 8192, TileShape::kTall, 132},
    {64, 4096, 4096, TileShape::kTall, 128},  {64, 4096, 14336, TileShape::kTall, 128},
    {64, 6144, 4096, TileShape::kHalf, 4},    {64, 8192, 8192, TileShape::kTall, 128},
    {64, 8192, 28672, TileShape::kTall, 128}, {64, 10240, 8192, TileShape::kTall, 132},
    {64, 28672, 4096, TileShape::kTall, 112}, {64, 57344, 8192, TileShape::kTall, 132},
};

/// Tokens of the tile that this many rows take (plan_gemm_wgmma), up to 64.
int32_t tile_tokens_of(int32_t rows) {
  return rows <= 8 ? 8 : rows <= 16 ? 16 : rows <= 32 ? 32 : 64;
}

}  // namespace

GemmPlan measured_plan(int32_t rows, int32_t n, int32_t k, int num_sms) {
  if (num_sms != kMeasuredSms || rows > 64) return {};
  const int32_t tile_tokens = tile_tokens_of(rows);
  const int32_t measured_rows = std::max<int32_t>(tile_tokens, 16);  // 8 tokens are cut as 16 are
  const auto* row = std::ranges::find_if(kMeasured, [&](const Measured& measured) {
    return measured.rows == measured_rows && measured.n == n && measured.k == k;
  });
  if (row == std::end(kMeasured)) return {};
  return {tile_tokens, row->num_splits, row->shape};
}

}  // namespace comet::formats::w4a16_cuda
