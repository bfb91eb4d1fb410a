// rows_gemm against FP64: the shapes of fc1, rows that fill no tile, columns that fill none,
// strides.
#include <gtest/gtest.h>

#include <cmath>

#include "comet/base/rng.h"
#include "comet/ops/product/cuda/rows_gemm.h"
#include "comet/tensor/dtype.h"
#include "support/gpu.h"

namespace comet::ops_cuda {
namespace {

using testing::DeviceArray;

struct Case {
  int64_t rows;
  int32_t n, k;
  int64_t x_gap = 0, out_gap = 0;
};

std::vector<BFloat16> random_bf16(int64_t count, uint64_t seed, float scale) {
  std::vector<BFloat16> values(static_cast<size_t>(count));
  Rng rng(seed);
  for (BFloat16& value : values) value = to_bfloat16(scale * rng.next_normal());
  return values;
}

void check(const Case& c, const CudaResources& gpu) {
  SCOPED_TRACE(::testing::Message() << c.rows << " x " << c.n << " x " << c.k << " gaps " << c.x_gap
                                    << ", " << c.out_gap);
  const int64_t x_stride = c.k + c.x_gap;
  const int64_t out_stride = c.n + c.out_gap;
  const auto x = random_bf16(c.rows * x_stride, 1, 1.0F);
  const auto w = random_bf16(int64_t{c.n} * c.k, 2, 1.5F / std::sqrt(static_cast<float>(c.k)));
  std::vector<float> bias(static_cast<size_t>(c.n));
  Rng rng(3);
  for (float& value : bias) value = rng.next_normal();
  const DeviceArray<BFloat16> device_x(x);
  const DeviceArray<BFloat16> device_w(w);
  const DeviceArray<float> device_bias(bias);
  const DeviceArray<uint16_t> out(static_cast<size_t>(c.rows * out_stride));
  const RowsGemmArgs args{device_x.get(),
                          device_w.get(),
                          device_bias.get(),
                          out.get(),
                          x_stride,
                          out_stride,
                          c.rows,
                          c.n,
                          c.k};
  ASSERT_TRUE(rows_gemm_supports(args, gpu.sm));
  launch_rows_gemm(args, gpu.num_sms, gpu.stream);
  const std::vector<uint16_t> got = out.to_host();
  // All of the first and the last rows, some between.
  for (int64_t row = 0; row < c.rows; row += row < 130 || row > c.rows - 130 ? 1 : 997) {
    for (int64_t column = 0; column < c.n; ++column) {
      double sum = bias[static_cast<size_t>(column)];
      for (int64_t i = 0; i < c.k; ++i) {
        sum += double{to_float(x[static_cast<size_t>(row * x_stride + i)])} *
               double{to_float(w[static_cast<size_t>(column * c.k + i)])};
      }
      const double want = sum * 0.5 * std::erfc(-sum * M_SQRT1_2);
      const double have = to_float(BFloat16{got[static_cast<size_t>(row * out_stride + column)]});
      ASSERT_NEAR(have, want, std::abs(want) * 0x1p-8 + 5e-5) << row << ", " << column;
    }
    for (int64_t column = c.n; column < out_stride; ++column) {
      ASSERT_EQ(got[static_cast<size_t>(row * out_stride + column)], 0xFFFF) << "behind " << row;
    }
  }
}

TEST(RowsGemmCuda, SmallTiles) {
  const auto gpu = testing::open_gpu();
  if (!gpu || gpu->sm != 90) GTEST_SKIP() << "no GPU of sm_90";
  for (const Case& c : {Case{64, 192, 64}, Case{1, 8, 8}, Case{65, 200, 40, 8, 16},
                        Case{200, 160, 40}, Case{130, 640, 160}, Case{77, 384, 96, 0, 8}}) {
    check(c, *gpu);
  }
}

TEST(RowsGemmCuda, StagesOfInceptionNext) {
  const auto gpu = testing::open_gpu();
  if (!gpu || gpu->sm != 90) GTEST_SKIP() << "no GPU of sm_90";
  for (const Case& c : {Case{50176, 384, 96}, Case{25088, 768, 192}, Case{12544, 1536, 384},
                        Case{25000, 960, 320}}) {
    check(c, *gpu);
  }
}

}  // namespace
}  // namespace comet::ops_cuda
