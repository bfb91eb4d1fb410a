// Codes of given rows bit for bit against the CPU's encoder, and the whole way of a head from the
// product to the cache against float64.
#include <gtest/gtest.h>

#include <set>

#include "comet/kv/cuda/page_reader.h"
#include "comet/ops/context.h"

namespace comet::kv {
namespace {

using testing::all_page_formats;
using testing::bf16_to_f32;
using testing::DeviceArray;
using testing::DevicePages;
using testing::NamedFormat;

/// No two values share a byte (kv4: a nibble), and codes fill their part.
template <typename Map>
void check_places(PageFormat format, int64_t dim, bool is_value) {
  const int width = format == PageFormat::kKv16 ? 2 : 1;
  std::set<int> places;
  for (int row = 0; row < kPageRows; ++row) {
    for (int d = 0; d < dim; ++d) {
      const int byte = is_value ? Map::value_byte(row, d) : Map::key_byte(row, d);
      ASSERT_GE(byte, 0);
      ASSERT_LE(byte + width, Map::kCodesBytes);
      places.insert(format == PageFormat::kKv4 ? 2 * byte + d % 2 : byte);
    }
  }
  EXPECT_EQ(places.size(), static_cast<size_t>(kPageRows) * dim);
}

TEST(PageMap, IsOneToOne) {
  for (const int64_t dim : {64, 128}) {
    for (const NamedFormat& format : all_page_formats()) {
      testing::with_map(format.page, dim, [&](auto map) {
        using Map = decltype(map);
        for (const bool is_value : {false, true}) check_places<Map>(format.page, dim, is_value);
        const KvShape shape{3, dim};
        EXPECT_EQ(3 * Map::kHeadBytes, format.format->page_bytes(shape));
      });
    }
  }
}

/// Rows of all magnitudes: subnormal to beyond FP16's range, constant, zero, with NaN and infinity.
RaggedCase hard_rows(int64_t dim, uint64_t seed) {
  RaggedCase c({{1, 77}, {1, 3}, {1, 64}}, 2, 2, dim, seed);
  Rng rng(seed + 1);
  const float scales[] = {1.0F, 1e-3F, 30.0F, 1e-7F, 1e-30F, 1e-42F, 500.0F,
                          6e4F, 7e4F,  1e6F,  1e38F, 0.0F,   1.0F};
  for (auto* x : {&c.k, &c.v}) {
    for (std::vector<float>& seq : *x) {
      for (size_t row = 0; row < seq.size() / dim; ++row) {
        float* values = seq.data() + row * dim;
        const float scale = scales[rng.next_below(std::size(scales))];
        const float shift = rng.next_below(3) == 0 ? 4.0F * scale : 0.0F;
        for (int64_t d = 0; d < dim; ++d) values[d] = values[d] * scale + shift;
        const uint64_t kind = rng.next_below(12);
        if (kind == 0) std::fill_n(values, dim, scale * (rng.next_below(2) == 0 ? 1.0F : -1.0F));
        if (kind == 1) values[rng.next_below(dim)] = NAN;
        if (kind == 2) values[rng.next_below(dim)] = -INFINITY;
        if (kind == 3) {  // codes on the border between two
          for (int64_t d = 0; d < dim; ++d) values[d] = static_cast<float>(d % 31) * 0.5F;
        }
        if (kind == 4) {  // a minimum that FP16 has, and one ulp beside it
          for (int64_t d = 0; d < dim; ++d) values[d] = std::fabs(values[d]) - 2.0F;
          values[0] = -2.0F;
          values[1] = rng.next_below(2) == 0 ? -2.0F : std::nextafter(-2.0F, -3.0F);
        }
      }
    }
  }
  return c;
}

/// NaN equals NaN.
int64_t num_different(const std::vector<float>& a, const std::vector<float>& b) {
  int64_t num = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const bool are_nan = std::isnan(a[i]) && std::isnan(b[i]);
    num += a[i] == b[i] || are_nan ? 0 : 1;
  }
  return num;
}

TEST(AppendCuda, CodesEqualTheCpus) {
  const auto gpu = comet::testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  const auto runtime = Runtime::cpu(CpuIsa::kPortable, 1);
  for (const int64_t dim : {64, 128}) {
    for (const NamedFormat& format : all_page_formats()) {
      for (uint64_t seed = 1; seed <= 6; ++seed) {
        const RaggedCase c = hard_rows(dim, seed);
        CaseRunner cpu(*format.format, c);
        const int64_t cpu_saturated = cpu.step(runtime->context(), {0, 0, 0}, {77, 3, 64}, nullptr);
        std::vector<std::vector<float>> cpu_k, cpu_v, gpu_k, gpu_v;
        cpu.gather(cpu_k, cpu_v);
        DevicePages pages(c, format);
        pages.encode(gpu->stream);
        pages.read(gpu_k, gpu_v);
        EXPECT_EQ(pages.num_saturated(), static_cast<uint64_t>(cpu_saturated));
        for (size_t s = 0; s < c.seqs.size(); ++s) {
          EXPECT_EQ(num_different(cpu_k[s], gpu_k[s]) + num_different(cpu_v[s], gpu_v[s]), 0)
              << format.format->name << " " << dim << " seed " << seed << " sequence " << s;
        }
      }
    }
  }
}

struct HeadOptions {
  bool norm;
  bool rotate;
};

/// What append does to a head of q or k, in float64 from the FP32 angle.
std::vector<double> expected_head(const float* x, const std::vector<float>& weight,
                                  const std::vector<float>& inv_freq, int32_t position,
                                  const HeadOptions& options) {
  const size_t dim = weight.size();
  std::vector<double> y(x, x + dim);
  if (options.norm) {
    double sum = 0;
    for (const double value : y) sum += value * value;
    const double scale = 1.0 / std::sqrt(sum / static_cast<double>(dim) + 1e-6);
    for (size_t i = 0; i < dim; ++i) y[i] *= scale * weight[i];
  }
  for (size_t i = 0; i < dim / 2; ++i) {
    const double angle = static_cast<float>(position) * inv_freq[i];
    const double a = y[i];
    const double b = y[i + dim / 2];
    y[i] = a * std::cos(angle) - b * std::sin(angle);
    y[i + dim / 2] = b * std::cos(angle) + a * std::sin(angle);
  }
  if (options.rotate) {
    for (size_t stride = 1; stride < dim; stride *= 2) {
      for (size_t i = 0; i < dim; ++i) {
        if ((i & stride) != 0) continue;
        const double a = y[i];
        y[i] = a + y[i + stride];
        y[i + stride] = a - y[i + stride];
      }
    }
    for (double& value : y) value /= std::sqrt(static_cast<double>(dim));
  }
  return y;
}

/// Fused rows of BF16 q | k | v with some columns behind them, at the case's positions.
struct FusedRows {
  std::vector<uint16_t> bits;
  std::vector<int32_t> positions;
  int64_t stride;

  FusedRows(const RaggedCase& c, uint64_t seed)
      : stride((c.num_heads + 2 * c.kv_heads) * c.head_dim + 6) {
    Rng rng(seed);
    for (const SeqLen& len : c.seqs) {
      for (int32_t t = 0; t < len.kv_len; ++t) {
        positions.push_back(t % 5 == 4 ? 131071 - t : t);
        for (int64_t i = 0; i < stride; ++i)
          bits.push_back(testing::f32_to_bf16(rng.next_normal()));
      }
    }
  }
};

void check_append(const CudaResources& gpu, const NamedFormat& format, const RaggedCase& c,
                  const HeadOptions& options) {
  const int64_t dim = c.head_dim;
  const FusedRows rows(c, 5);
  Rng rng(6);
  std::vector<float> q_weight, k_weight, inv_freq;
  for (int64_t i = 0; i < dim; ++i) {
    q_weight.push_back(1.0F + 0.2F * rng.next_normal());
    k_weight.push_back(1.0F + 0.2F * rng.next_normal());
  }
  for (int64_t i = 0; i < dim / 2; ++i) {
    inv_freq.push_back(static_cast<float>(
        std::pow(500000.0, -2.0 * static_cast<double>(i) / static_cast<double>(dim))));
  }
  const auto num_tokens = static_cast<int64_t>(rows.positions.size());
  const DeviceArray<uint16_t> fused(rows.bits);
  const DeviceArray<int32_t> positions(rows.positions);
  const DeviceArray<int32_t> slots(testing::slots_of(c));
  const DeviceArray<float> device_inv_freq(inv_freq);
  const DeviceArray<float> device_q_weight(q_weight);
  const DeviceArray<float> device_k_weight(k_weight);
  const DeviceArray<uint16_t> q_out(static_cast<size_t>(num_tokens * c.num_heads * dim));
  const DevicePages pages(c, format);
  AppendParams params;
  params.q = fused.get();
  params.k = params.q + c.num_heads * dim;
  params.v = params.k + c.kv_heads * dim;
  params.q_stride = params.k_stride = params.v_stride = rows.stride;
  params.positions = positions.get();
  params.slots = slots.get();
  params.inv_freq = device_inv_freq.get();
  params.q_norm = options.norm ? device_q_weight.get() : nullptr;
  params.k_norm = options.norm ? device_k_weight.get() : nullptr;
  params.norm_eps = 1e-6F;
  params.rotate = options.rotate;
  params.q_out = q_out.get();
  params.pages = pages.get();
  params.num_tokens = static_cast<int>(num_tokens);
  params.num_heads = static_cast<int>(c.num_heads);
  params.num_kv_heads = static_cast<int>(c.kv_heads);
  COMET_CUDA(launch_append(params, format.page, static_cast<int>(dim), gpu.stream));
  std::vector<std::vector<float>> k, v;
  pages.read(k, v);
  const std::vector<uint16_t> q = q_out.to_host();

  double worst = 0;  // error over what rounding of the stored type allows
  const auto check_row = [&](const std::vector<double>& want, const float* got, double step) {
    double range = 0;
    for (const double x : want) range = std::max(range, std::fabs(x));
    for (size_t i = 0; i < want.size(); ++i) {
      const double allowed = (step == 0 ? std::fabs(want[i]) / 256 : range * step) + 2e-5 * range;
      worst = std::max(worst, std::fabs(want[i] - got[i]) / allowed);
    }
  };
  const double step = format.page == PageFormat::kKv16  ? 0.0
                      : format.page == PageFormat::kKv8 ? 0.5 * 1.002 / 127
                                                        : 0.5 * 2.01 / 15;
  std::vector<float> x(static_cast<size_t>(dim));
  int64_t token = 0;
  for (size_t s = 0; s < c.seqs.size(); ++s) {
    for (int32_t t = 0; t < c.seqs[s].kv_len; ++t, ++token) {
      const uint16_t* row = rows.bits.data() + token * rows.stride;
      for (int64_t h = 0; h < c.num_heads + 2 * c.kv_heads; ++h) {
        for (int64_t d = 0; d < dim; ++d) x[d] = bf16_to_f32(row[h * dim + d]);
        const int64_t kv_head = (h - c.num_heads) % c.kv_heads;
        const int64_t at = (t * c.kv_heads + kv_head) * dim;
        if (h < c.num_heads) {
          std::vector<float> got;
          for (int64_t d = 0; d < dim; ++d) {
            got.push_back(bf16_to_f32(q[(token * c.num_heads + h) * dim + d]));
          }
          check_row(expected_head(x.data(), q_weight, inv_freq, rows.positions[token], options),
                    got.data(), 0.0);
        } else if (h < c.num_heads + c.kv_heads) {
          check_row(expected_head(x.data(), k_weight, inv_freq, rows.positions[token], options),
                    k[s].data() + at, step);
        } else {
          check_row(std::vector<double>(x.begin(), x.end()), v[s].data() + at, step);
        }
      }
    }
  }
  EXPECT_LE(worst, 1.0) << format.format->name << " " << dim << " norm " << options.norm
                        << " rotate " << options.rotate;
}

TEST(AppendCuda, HeadsMatchFloat64) {
  const auto gpu = comet::testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  for (const int64_t dim : {64, 128}) {
    for (const NamedFormat& format : all_page_formats()) {
      // A warp a head.
      for (const RaggedCase& c : {RaggedCase({{1, 45}, {1, 1}, {1, 96}}, 6, 3, dim, 3),
                                  RaggedCase({{1, 37}, {1, 1}}, 10, 2, dim, 3)}) {
        for (const HeadOptions options :
             {HeadOptions{false, false}, HeadOptions{true, false}, HeadOptions{true, true}}) {
          check_append(*gpu, format, c, options);
        }
      }
    }
  }
}

/// On 132 SMs: three heads a warp, and ten, of which it asks for six and then four.
TEST(AppendCuda, ManyTokensMatchFloat64) {
  const auto gpu = comet::testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  for (const NamedFormat& format : all_page_formats()) {
    check_append(*gpu, format, RaggedCase({{1, 300}}, 32, 8, 128, 3), {false, true});
    check_append(*gpu, format, RaggedCase({{1, 730}}, 64, 8, 128, 3), {true, true});
  }
}

}  // namespace
}  // namespace comet::kv
