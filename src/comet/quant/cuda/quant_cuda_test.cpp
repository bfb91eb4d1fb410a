// The quantizer's kernels on a GPU against the CPU's code.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "comet/base/rng.h"
#include "comet/quant/cuda/device_hessian.h"
#include "comet/quant/cuda/launches.h"
#include "comet/quant/fmpq/activation_rows.h"
#include "comet/quant/weights/gptq.h"
#include "comet/quant/weights/hessian.h"
#include "comet/quant/weights/weight_methods.h"
#include "support/gpu.h"

namespace comet::quant {
namespace {

using formats::ActScale;
using formats::Granularity;
using formats::SiteLayout;

/// Rows that share a few strong directions, with some large channels.
Matrix correlated_rows(int64_t rows, int64_t cols, uint64_t seed) {
  constexpr int64_t kDirections = 8;
  Rng rng(seed);
  Matrix mix(kDirections, cols);
  for (float& x : mix.values) x = rng.next_normal();
  Matrix m(rows, cols);
  for (int64_t t = 0; t < rows; ++t) {
    std::array<float, kDirections> strength{};
    for (float& s : strength) s = 2.0F * rng.next_normal();
    for (int64_t c = 0; c < cols; ++c) {
      float x = rng.next_normal();
      for (int64_t d = 0; d < kDirections; ++d) x += strength[d] * mix.row(d)[c];
      m.row(t)[c] = c % 37 == 5 ? 20.0F * x : x;
    }
  }
  return m;
}

Matrix normal_matrix(int64_t rows, int64_t cols, uint64_t seed) {
  Matrix m(rows, cols);
  Rng rng(seed);
  for (float& x : m.values) x = 0.05F * rng.next_normal();
  return m;
}

/// k channels in a shuffled stored order.
SiteLayout make_layout(int64_t k, int64_t int8_blocks, ActScale scale) {
  SiteLayout layout;
  layout.name = "site";
  layout.k = k;
  layout.k_padded = (k + 127) / 128 * 128;
  layout.int8_blocks = int8_blocks;
  layout.clip = 0.85F;
  layout.scale = scale;
  layout.perm.assign(layout.k_padded, -1);
  std::iota(layout.perm.begin(), layout.perm.begin() + k, 0);
  std::mt19937 order(7);
  std::shuffle(layout.perm.begin(), layout.perm.end(), order);
  return layout;
}

SiteLayout plain_layout(int64_t k) {
  SiteLayout layout = make_layout(k, 0, ActScale::kA16);
  layout.perm.clear();
  return layout;
}

class QuantCudaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto runtime = Runtime::cuda(0, 2);
    if (!runtime.ok()) GTEST_SKIP() << runtime.error().message;
    gpu_ = *std::move(runtime);
    cpu_ = Runtime::cpu(detect_cpu_isa(), 2);
  }
  Context& gpu() { return gpu_->context(); }
  Context& cpu() { return cpu_->context(); }
  ThreadPool& pool() { return cpu().pool; }

  /// Σ x·xᵀ in FP64, by definition.
  SymmetricMatrix exact_sum(const Matrix& x) {
    SymmetricMatrix sum(x.cols);
    pool().parallel_for(x.cols, [&](int64_t i, int) {
      for (int64_t t = 0; t < x.rows; ++t) {
        const double factor = x.row(t)[i];
        for (int64_t j = 0; j <= i; ++j) sum.at(i, j) += factor * x.row(t)[j];
      }
    });
    return sum;
  }

  std::unique_ptr<Runtime> gpu_;
  std::unique_ptr<Runtime> cpu_;
};

TEST_F(QuantCudaTest, SiteRowsAreTheCpusBitForBit) {
  for (const ActScale scale :
       {ActScale::kS1, ActScale::kS2, ActScale::kS2h, ActScale::kA16, ActScale::kToken}) {
    for (const int64_t k : {100, 384, 1000, 4096}) {
      for (const bool shuffled : {true, false}) {
        SiteLayout layout =
            make_layout(k, scale == ActScale::kToken ? (k + 127) / 128 : k / 512, scale);
        if (!shuffled) layout.perm.clear();
        Matrix rows = correlated_rows(37, k, 3);
        std::fill(rows.row(5), rows.row(6), 0.0F);
        const Matrix stored = stored_rows(pool(), layout, rows.view());
        const Matrix want = quantized_rows(pool(), layout, stored);
        const cuda::DeviceValues<float> x(gpu(), rows.values);
        const testing::DeviceArray<float> out(want.values.size());
        cuda::DeviceValues<int32_t> perm;
        if (shuffled) perm = cuda::DeviceValues<int32_t>(gpu(), layout.perm);
        cuda::launch_site_rows(
            {x.get(), perm.get(), out.get(), rows.rows, static_cast<int>(k),
             static_cast<int>(layout.k_padded), static_cast<int>(layout.int4_channels()),
             layout.clip, scale == ActScale::kS2h, scale == ActScale::kS1, scale != ActScale::kA16},
            gpu().cuda->stream);
        EXPECT_EQ(out.to_host(), want.values) << act_scale_name(scale) << " " << k;
      }
    }
  }
}

TEST_F(QuantCudaTest, HessiansAreFp64Sums) {
  for (const int64_t k : {128, 300, 640}) {
    const SiteLayout layout = make_layout(k, 1, ActScale::kS2h);
    const Matrix rows = correlated_rows(2500, k, 11);  // more than a chunk
    const Matrix quantized =
        quantized_rows(pool(), layout, stored_rows(pool(), layout, rows.view()));
    const SymmetricMatrix want = exact_sum(quantized);
    cuda::DeviceHessian hessian(gpu(), layout);
    constexpr int64_t kFirst = 777;
    const cuda::DeviceValues<float> x(gpu(), rows.values);
    hessian.add({x.get(), DType::kF32, kFirst, k, k});
    hessian.add({x.get() + kFirst * k, DType::kF32, rows.rows - kFirst, k, k});
    const SymmetricMatrix got = hessian.to_host();
    HessianAccumulator accumulator(layout);
    accumulator.add(cpu(), rows.view());
    const SymmetricMatrix of_cpu = accumulator.finish(cpu());
    for (int64_t i = 0; i < want.n; ++i) {
      for (int64_t j = 0; j <= i; ++j) {
        // Relative to the diagonal, as damping and factorization see it.
        const double scale = std::sqrt(want.at(i, i) * want.at(j, j)) + 1e-30;
        ASSERT_NEAR(got.at(i, j), want.at(i, j), 1e-12 * scale) << k << " " << i << " " << j;
        ASSERT_NEAR(got.at(i, j), of_cpu.at(i, j), 1e-5 * scale) << k << " " << i << " " << j;
      }
    }
  }
}

/// Rows as a layer leaves them: BF16, with a stride.
TEST_F(QuantCudaTest, RowsAreKeptAndFolded) {
  constexpr int64_t kStride = 352;
  const auto cpu_backend = make_cpu_backend(cpu());
  const auto gpu_backend = make_backend(gpu());
  for (const int64_t k : {37, 300}) {
    const Matrix source = correlated_rows(2300, kStride, 17);
    std::vector<uint16_t> narrow(source.values.size());
    Matrix wide(source.rows, k);
    for (int64_t t = 0; t < source.rows; ++t) {
      for (int64_t c = 0; c < kStride; ++c) {
        const BFloat16 x = to_bfloat16(source.row(t)[c]);
        narrow[t * kStride + c] = x.bits;
        if (c < k) wide.row(t)[c] = to_float(x);
      }
    }
    std::vector<float> scales(k, 1.0F);
    std::vector<int32_t> order(k);
    std::iota(order.begin(), order.end(), 0);
    std::mt19937 engine(3);
    std::shuffle(order.begin(), order.end(), engine);
    for (int64_t c = 0; c < k; c += 3) scales[c] = 0.7F + static_cast<float>(c);
    const testing::DeviceArray<uint16_t> x(narrow);
    const auto want = cpu_backend->make_kept_rows(source.rows, k);
    const auto got = gpu_backend->make_kept_rows(source.rows, k);
    constexpr int64_t kFirst = 500;
    want->append(wide.view());
    got->append({x.get(), DType::kBF16, kFirst, k, kStride});
    got->append({x.get() + kFirst * kStride, DType::kBF16, source.rows - kFirst, k, kStride});
    EXPECT_EQ(gpu_backend->download(got->rows()).values, wide.values);
    EXPECT_EQ(gpu_backend->download({x.get(), DType::kBF16, source.rows, k, kStride}).values,
              wide.values);
    for (KeptRows* rows : {want.get(), got.get()}) {
      rows->scale(scales);
      rows->permute(order);
    }
    const Matrix folded = cpu_backend->download(want->rows());
    EXPECT_EQ(gpu_backend->download(got->rows()).values, folded.values);
    // A Hessian of rows with a stride is that of the same rows without one.
    const SiteLayout layout = make_layout(k, 1, ActScale::kS2);
    cuda::DeviceHessian strided(gpu(), layout);
    strided.add({x.get(), DType::kBF16, source.rows, k, kStride});
    cuda::DeviceHessian plain(gpu(), layout);
    const cuda::DeviceValues<float> floats(gpu(), wide.values);
    plain.add({floats.get(), DType::kF32, source.rows, k, k});
    EXPECT_EQ(strided.to_host().values, plain.to_host().values);
  }
}

TEST_F(QuantCudaTest, CholeskyTimesItsTransposeIsTheMatrix) {
  for (const int64_t k : {64, 128, 384, 832}) {
    SymmetricMatrix a = exact_sum(correlated_rows(k + 50, k, 5));
    cuda::DeviceValues<double> values(gpu(), a.values);
    cuda::DeviceValues<int> failed(gpu(), 1);
    cuda::launch_cholesky(values.get(), k, failed.get(), gpu().cuda->stream);
    SymmetricMatrix lower(k);
    values.copy_to(lower.values.data(), k * k);
    int is_failed = -1;
    failed.copy_to(&is_failed, 1);
    ASSERT_EQ(is_failed, 0);
    for (int64_t i = 0; i < k; ++i) {
      for (int64_t j = 0; j <= i; ++j) {
        double sum = 0.0;
        for (int64_t p = 0; p <= j; ++p) sum += lower.at(i, p) * lower.at(j, p);
        ASSERT_NEAR(sum, a.at(i, j), 1e-12 * std::sqrt(a.at(i, i) * a.at(j, j)))
            << k << " " << i << " " << j;
      }
    }
    a.at(k / 2, k / 2) = -1.0;
    values.copy_from(a.values.data(), k * k);
    cuda::launch_cholesky(values.get(), k, failed.get(), gpu().cuda->stream);
    failed.copy_to(&is_failed, 1);
    EXPECT_EQ(is_failed, 1);
  }
}

TEST_F(QuantCudaTest, FeedbackFactorsAreTheCpus) {
  for (const int64_t k : {128, 384, 1024}) {
    const SymmetricMatrix h = exact_sum(correlated_rows(k / 2, k, 9));  // singular without damping
    cuda::DeviceHessian hessian(gpu(), plain_layout(k));
    hessian.assign(h);
    const auto got = hessian.factor(0.01, "linear");
    const auto want = factor_hessian(cpu(), h, 0.01, "linear");
    ASSERT_TRUE(got.ok() && want.ok());
    EXPECT_EQ(got->order, want->order);
    std::vector<float> rows(k * k);
    got->rows.copy_to(rows.data(), k * k);
    double error = 0.0;
    double signal = 0.0;
    for (size_t i = 0; i < rows.size(); ++i) {
      error += std::pow(static_cast<double>(rows[i]) - want->rows.values[i], 2);
      signal += std::pow(static_cast<double>(want->rows.values[i]), 2);
    }
    EXPECT_LT(std::sqrt(error / signal), 1e-4) << k;
  }
}

TEST_F(QuantCudaTest, HessiansThatDampingDoesNotCureAreErrors) {
  SymmetricMatrix broken(128);
  for (int64_t i = 0; i < broken.n; ++i) broken.at(i, i) = i % 2 == 0 ? 1.0 : -3.0;
  cuda::DeviceHessian hessian(gpu(), plain_layout(128));
  hessian.assign(broken);
  const auto factor = hessian.factor(0.01, "the site");
  ASSERT_FALSE(factor.ok());
  EXPECT_NE(factor.error().message.find("the site"), std::string::npos);
  cuda::DeviceHessian zero(gpu(), plain_layout(128));
  EXPECT_TRUE(zero.factor(0.01, "the site").ok());
}

/// Σ over rows of Δ·H·Δᵀ, what GPTQ makes small.
double output_error(ThreadPool& pool, const Matrix& w, const Matrix& decoded,
                    const SymmetricMatrix& h) {
  std::vector<double> errors(w.rows);
  pool.parallel_for(w.rows, [&](int64_t n, int) {
    for (int64_t i = 0; i < w.cols; ++i) {
      const double di = static_cast<double>(w.row(n)[i]) - decoded.row(n)[i];
      double sum = h.at(i, i) * di / 2.0;
      for (int64_t j = 0; j < i; ++j) {
        sum += h.at(i, j) * (static_cast<double>(w.row(n)[j]) - decoded.row(n)[j]);
      }
      errors[n] += 2.0 * di * sum;
    }
  });
  double total = 0.0;
  for (const double error : errors) total += error;
  return total;
}

struct CodingCase {
  Granularity granularity;
  WeightCodes codes;
};

TEST_F(QuantCudaTest, CodesAreTheCpusButForTies) {
  constexpr std::array kCases{CodingCase{Granularity::kChannel, WeightCodes::kS4},
                              CodingCase{Granularity::kGroup, WeightCodes::kS4},
                              CodingCase{Granularity::kProgressive, WeightCodes::kS4},
                              CodingCase{Granularity::kChannel, WeightCodes::kS8}};
  for (const auto& [rows, k] : {std::pair<int64_t, int64_t>{1, 128}, {131, 512}, {300, 1152}}) {
    const SymmetricMatrix h = exact_sum(correlated_rows(k + 200, k, 21));
    Matrix w = normal_matrix(rows, k, 22);
    if (rows > 1) std::fill(w.row(1), w.row(1) + k, 0.0F);
    const auto factor = factor_hessian(cpu(), h, 0.01, "w");
    ASSERT_TRUE(factor.ok());
    for (const auto& [granularity, code_kind] : kCases) {
      CodedWeight coded;
      coded.grid = choose_grid(pool(), w, {granularity, DType::kF16, code_kind}, true, {});
      coded.codes.resize(w.values.size());
      code_with_feedback(cpu(), w, coded.grid, *factor, coded.codes);
      cuda::DeviceHessian hessian(gpu(), plain_layout(k));
      hessian.assign(h);
      const std::string name = "w";
      auto got = hessian.code({name, w, coded.grid, 0.01});
      ASSERT_TRUE(got.ok());
      int64_t num_equal = 0;
      for (size_t i = 0; i < got->size(); ++i) num_equal += (*got)[i] == coded.codes[i] ? 1 : 0;
      const double share = static_cast<double>(num_equal) / static_cast<double>(got->size());
      const double want = output_error(pool(), w, decoded_weight(pool(), coded), h);
      coded.codes = *std::move(got);
      const double found = output_error(pool(), w, decoded_weight(pool(), coded), h);
      RecordProperty("equal_codes", std::to_string(share));
      EXPECT_GE(share, code_kind == WeightCodes::kS4 ? 0.999 : 0.995)
          << rows << " " << k << " " << static_cast<int>(granularity);
      EXPECT_NEAR(found, want, 1e-3 * want)
          << rows << " " << k << " " << static_cast<int>(granularity);
    }
  }
}

}  // namespace
}  // namespace comet::quant
