// w4ax on CUDA against the CPU: codes of given rows and products of given codes, bit for bit; the
// packing first. The CPU's kernels equal reference_linear (formats_conformance_test.cpp).
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <numeric>

#include "comet/base/rng.h"
#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/cuda_resources.h"
#include "comet/device/cuda/graph.h"
#include "comet/formats/w4ax/w4ax.h"
#include "support/tensor_map.h"

namespace comet::formats::w4ax {
namespace {

using ::comet::testing::make_tensor;
using ::comet::testing::TensorMap;

struct Case {
  std::vector<int64_t> part_rows{128};
  int64_t k = 128;
  int64_t int8_blocks = 0;
  ActScale scale = ActScale::kS2;
  Granularity granularity = Granularity::kChannel;
  bool has_bias = false;
  bool permuted = true;
};

std::string label(const Case& c, int64_t tokens) {
  return fmt::format("{} {} n=[{}] k={} int8={} tokens={}", granularity_name(c.granularity),
                     act_scale_name(c.scale), fmt::join(c.part_rows, ","), c.k, c.int8_blocks,
                     tokens);
}

std::vector<int32_t> random_perm(const SiteLayout& site, Rng& rng) {
  std::vector<int32_t> perm(static_cast<size_t>(site.k));
  std::iota(perm.begin(), perm.end(), 0);
  for (size_t i = perm.size(); i > 1; --i) std::swap(perm[i - 1], perm[rng.next_below(i)]);
  const int64_t padding = site.k_padded - site.k;
  const int64_t at = std::clamp<int64_t>(site.int4_channels() - padding, 0, site.k);
  perm.insert(perm.begin() + at, static_cast<size_t>(padding), -1);
  return perm;
}

/// g and o such that every u·g + o fits in 8 bits.
void add_levels(QuantizedWeight& w, Rng& rng) {
  const int g = 1 + static_cast<int>(rng.next_below(16));
  w.group_multiplier.push_back(static_cast<uint8_t>(g));
  const int lowest = -127;
  const int num_offsets = 127 - 15 * g - lowest + 1;
  w.group_offset.push_back(static_cast<int8_t>(
      lowest + static_cast<int>(rng.next_below(static_cast<uint64_t>(num_offsets)))));
}

QuantizedWeight random_weight(const Case& c) {
  Rng rng(static_cast<uint64_t>(c.k * 7 + c.int8_blocks), 3);
  QuantizedWeight w;
  w.name = "model.layers.0.self_attn.qkv_proj";
  w.part_rows = c.part_rows;
  for (size_t i = 0; i < c.part_rows.size(); ++i) w.parts.push_back(fmt::format("p{}", i));
  w.site.name = "model.layers.0.self_attn.qkv_in";
  w.site.k = c.k;
  w.site.k_padded = (c.k + 127) / 128 * 128;
  w.site.int8_blocks = c.int8_blocks;
  w.site.clip = 0.9F;
  w.site.scale = c.scale;
  if (c.permuted) w.site.perm = random_perm(w.site, rng);
  w.granularity = c.granularity;
  const bool progressive = c.granularity == Granularity::kProgressive;
  const int64_t rows = w.num_rows();
  w.codes.resize(static_cast<size_t>(rows * w.site.k_padded));
  for (int8_t& code : w.codes) {
    code = static_cast<int8_t>(static_cast<int>(rng.next_below(16)) - (progressive ? 0 : 8));
  }
  for (int64_t i = 0; c.granularity != Granularity::kGroup && i < rows; ++i) {
    w.channel_scale.push_back(rng.next_uniform() * 0.01F);
  }
  for (int64_t i = 0; i < rows * w.site.num_blocks(); ++i) {
    if (c.granularity == Granularity::kGroup) {
      w.group_scale.push_back(to_float(to_float16(rng.next_uniform() * 0.1F)));
    } else if (progressive) {
      add_levels(w, rng);
    }
  }
  for (int64_t i = 0; c.has_bias && i < rows; ++i) w.bias.push_back(rng.next_normal());
  return w;
}

LinearWeight bind_weight(const QuantizedWeight& w) {
  const WeightFormat& format = w4ax_format();
  const PackedLinear packed = *format.pack(w);
  TensorMap tensors;
  tensors.add(packed);
  ManifestParts parts;
  parts.granularity = w.granularity;
  parts.act_scale = w.site.scale;
  parts.kv_cache = {{"format", "kv4"}, {"rotate", true}, {"window", {0, 0}}};
  parts.sites.push_back(packed.site);
  parts.linears.push_back(packed.linear);
  const auto config = *format.parse_config(format.manifest(parts), "config.json");
  LinearSpec spec;
  spec.name = w.name;
  spec.prefix = "model.layers.0.self_attn.";
  spec.parts = w.parts;
  spec.part_rows = w.part_rows;
  spec.k = w.site.k;
  spec.has_bias = !w.bias.empty();
  return *format.bind(spec, config.get(), tensors);
}

/// The two runtimes and one linear on both.
struct Bench {
  std::unique_ptr<Runtime> gpu;
  std::unique_ptr<Runtime> cpu = Runtime::cpu(detect_cpu_isa(), 2);
  LinearWeight host;
  LinearWeight device;

  Context& gpu_ctx() const { return gpu->context(); }
  Context& cpu_ctx() const { return cpu->context(); }

  void load(const QuantizedWeight& weight) {
    host = bind_weight(weight);
    device = host;
    ASSERT_TRUE(plan_linear(host, cpu_ctx().caps).ok());
    const Status planned = plan_linear(device, gpu_ctx().caps);
    ASSERT_TRUE(planned.ok()) << planned.error().message;
    ASSERT_TRUE(device.backend->prepare(gpu_ctx(), device).ok());
  }
};

Bench open_bench() {
  Bench bench;
  auto gpu = Runtime::cuda(0, 1);
  if (gpu.ok()) bench.gpu = *std::move(gpu);
  return bench;
}

/// Gaussian rows; one of zeros, one with an outlier and one with a NaN where there are enough.
std::vector<float> sample_rows(int64_t tokens, int64_t k) {
  Rng rng(static_cast<uint64_t>(tokens * 31 + k));
  std::vector<float> x(static_cast<size_t>(tokens * k));
  for (float& value : x) value = rng.next_normal();
  if (tokens > 4) {
    std::fill_n(x.begin() + k, k, 0.0F);
    x[static_cast<size_t>(2 * k + k / 2)] = 1e4F;
    x[static_cast<size_t>(4 * k - 1)] = std::nanf("");
  }
  return x;
}

bool same(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) ||
         (std::isnan(a) && std::isnan(b));
}

void expect_same_codes(Bench& bench, const Activation& got, const Activation& want,
                       const std::string& what) {
  const Tensor codes = copy_to_host(bench.gpu_ctx(), got.parts[kCodes]);
  const Tensor scales = copy_to_host(bench.gpu_ctx(), got.parts[kScales]);
  ASSERT_EQ(codes.num_elements(), want.parts[kCodes].num_elements()) << what;
  ASSERT_EQ(scales.num_elements(), want.parts[kScales].num_elements()) << what;
  for (int64_t i = 0; i < scales.num_elements(); ++i) {
    const float w = want.parts[kScales].data<float>()[i];
    ASSERT_TRUE(same(scales.data<float>()[i], w))
        << what << " scale " << i << ": " << scales.data<float>()[i] << " for " << w;
  }
  const int64_t k = codes.size(1);
  for (int64_t i = 0; i < codes.num_elements(); ++i) {
    ASSERT_EQ(int{codes.data<int8_t>()[i]}, int{want.parts[kCodes].data<int8_t>()[i]})
        << what << " row " << i / k << " position " << i % k;
  }
}

constexpr uint8_t kPoison = 0xFF;  // NaN as F32 and as BF16
constexpr int64_t kGuardColumns = 3;

void expect_same_product(Bench& bench, const Activation& input, const std::vector<float>& want,
                         DType out_type, const std::string& what) {
  Context& ctx = bench.gpu_ctx();
  const int64_t n = bench.host.spec.n();
  const int64_t stride = n + kGuardColumns;
  for (const LinearKernel& kernel : bench.device.backend->kernels) {
    if (!kernel.supports(bench.device, ctx.caps)) continue;
    const ArenaScope scope(ctx.arena);
    const Tensor frame = ctx.arena.alloc(out_type, {input.rows + 1, stride});
    COMET_CUDA(cudaMemsetAsync(frame.raw(), kPoison, static_cast<size_t>(frame.num_bytes()),
                               ctx.cuda->stream));
    kernel.run(ctx, bench.device, input, frame.slice(0, 0, input.rows).slice(1, 0, n));
    const Tensor out = copy_to_host(ctx, frame);
    for (int64_t i = 0; i < out.num_elements(); ++i) {
      const int64_t row = i / stride;
      const int64_t column = i % stride;
      const float got =
          out_type == DType::kF32 ? out.data<float>()[i] : to_float(out.data<BFloat16>()[i]);
      if (row == input.rows || column >= n) {
        ASSERT_TRUE(std::isnan(got))
            << what << " " << kernel.name << ": wrote outside at " << row << ", " << column;
        continue;
      }
      float expected = want[static_cast<size_t>(row * n + column)];
      if (out_type == DType::kBF16) expected = to_float(to_bfloat16(expected));
      ASSERT_TRUE(same(got, expected)) << what << " " << kernel.name << " row " << row << " column "
                                       << column << ": " << got << " for " << expected;
    }
  }
}

void check_rows(Bench& bench, const std::vector<float>& x, const std::string& what) {
  const int64_t k = bench.host.spec.k;
  const int64_t tokens = static_cast<int64_t>(x.size()) / k;
  const int64_t n = bench.host.spec.n();
  const ArenaScope cpu_scope(bench.cpu_ctx().arena);
  const ArenaScope gpu_scope(bench.gpu_ctx().arena);
  const Activation want_input = bench.host.backend->input_from_rows(
      bench.cpu_ctx(), bench.host, View<const float, 2>(x.data(), {tokens, k}));
  std::vector<float> want(static_cast<size_t>(tokens * n));
  bench.host.kernel->run(bench.cpu_ctx(), bench.host, want_input,
                         View<float, 2>(want.data(), {tokens, n}));
  const Tensor device_x = copy_to_device(bench.gpu_ctx(), make_tensor(Shape{tokens, k}, x));
  const Activation input =
      bench.device.backend->input_from_rows(bench.gpu_ctx(), bench.device, device_x);
  expect_same_codes(bench, input, want_input, what);
  if (::testing::Test::HasFatalFailure()) return;
  // Codes of the CPU, so that a fault of a producer cannot hide one of a product.
  Activation copied = input;
  copied.parts[kCodes] = copy_to_device(bench.gpu_ctx(), want_input.parts[kCodes]);
  copied.parts[kScales] = copy_to_device(bench.gpu_ctx(), want_input.parts[kScales]);
  for (const DType type : {DType::kF32, DType::kBF16}) {
    expect_same_product(bench, copied, want, type, what);
    if (::testing::Test::HasFatalFailure()) return;
  }
}

void check_case(Bench& bench, const Case& c, const std::vector<int64_t>& token_counts) {
  bench.load(random_weight(c));
  for (const int64_t tokens : token_counts) {
    if (::testing::Test::HasFatalFailure()) return;
    check_rows(bench, sample_rows(tokens, c.k), label(c, tokens));
  }
}

/// The claim of docs/formats.md §4: each row of x names one channel, so each output is one weight.
TEST(W4axCuda, Tile128IsTheFragmentOrder) {
  Bench bench = open_bench();
  if (!bench.gpu) GTEST_SKIP() << "no GPU";
  for (const Granularity granularity :
       {Granularity::kChannel, Granularity::kGroup, Granularity::kProgressive}) {
    Case c{.k = 128, .int8_blocks = 1, .granularity = granularity, .permuted = false};
    bench.load(random_weight(c));
    std::vector<float> x(128 * 128, 0.0F);
    for (size_t i = 0; i < 128; ++i) x[i * 128 + i] = 1.0F;
    check_rows(bench, x, label(c, 128));
    x.resize(16 * 128);
    check_rows(bench, x, label(c, 16));
    if (HasFatalFailure()) return;
  }
}

TEST(W4axCuda, RaggedLinearsOfEveryMode) {
  Bench bench = open_bench();
  if (!bench.gpu) GTEST_SKIP() << "no GPU";
  const std::vector<int64_t> tokens{1, 3, 16, 17, 64, 100, 256, 1024};
  for (const Granularity granularity :
       {Granularity::kChannel, Granularity::kGroup, Granularity::kProgressive}) {
    for (const ActScale scale : {ActScale::kS1, ActScale::kS2, ActScale::kS2h}) {
      const auto check = [&](Case c) {
        c.granularity = granularity;
        c.scale = scale;
        check_case(bench, c, tokens);
      };
      check({.part_rows = {1}, .k = 1, .permuted = false});
      check({.part_rows = {130, 16, 5}, .k = 300, .int8_blocks = 1, .has_bias = true});
      check({.part_rows = {20}, .k = 384, .int8_blocks = 3});
      check({.part_rows = {64}, .k = 384});
      // More than one chain of 8 blocks, with the segments' border inside the second.
      check({.part_rows = {33, 256}, .k = 2500, .int8_blocks = 8});
      if (HasFatalFailure()) return;
    }
  }
}

/// Every kernel with few CTAs, for compute-sanitizer: tiles of 16, 32, 64 and 128 tokens, one
/// segment and two, K split; then so many tiles of tokens that K is not split and stages are filled
/// again.
TEST(W4axCuda, SmallLinearsOfEveryMode) {
  Bench bench = open_bench();
  if (!bench.gpu) GTEST_SKIP() << "no GPU";
  for (const Granularity granularity :
       {Granularity::kChannel, Granularity::kGroup, Granularity::kProgressive}) {
    for (const ActScale scale : {ActScale::kS1, ActScale::kS2}) {
      Case c{.part_rows = {40, 5}, .k = 1300, .scale = scale, .granularity = granularity};
      check_case(bench, c, {3, 20, 40, 70});
      c.int8_blocks = 3;
      check_case(bench, c, {3, 40});
      if (HasFatalFailure()) return;
    }
    const Case c{.part_rows = {5}, .k = 1300, .int8_blocks = 3, .granularity = granularity};
    check_case(bench, c, {9000});
    if (HasFatalFailure()) return;
  }
}

TEST(W4axCuda, LongChannelsAsInLlama) {
  Bench bench = open_bench();
  if (!bench.gpu) GTEST_SKIP() << "no GPU";
  const std::vector<int64_t> tokens{1, 16, 64, 100, 256, 1024};
  for (const int64_t k : {4096, 14336}) {
    const int64_t blocks = k / 128;
    for (const Case& c : std::vector<Case>{
             {.int8_blocks = blocks, .granularity = Granularity::kProgressive},
             {.int8_blocks = 1, .scale = ActScale::kS2h},
             {.int8_blocks = 0},
             {.int8_blocks = blocks / 2, .scale = ActScale::kS1},
             {.int8_blocks = 1, .scale = ActScale::kS1, .granularity = Granularity::kGroup}}) {
      Case sized = c;
      sized.part_rows = {128, 40};
      sized.k = k;
      sized.permuted = k == 4096;
      check_case(bench, sized, tokens);
      if (HasFatalFailure()) return;
    }
  }
}

/// More tiles than SMs: K is not split.
TEST(W4axCuda, ManyOutputs) {
  Bench bench = open_bench();
  if (!bench.gpu) GTEST_SKIP() << "no GPU";
  for (const Case& c : std::vector<Case>{
           {.int8_blocks = 3, .granularity = Granularity::kProgressive},
           {.int8_blocks = 3},
           {.int8_blocks = 1, .scale = ActScale::kS2h, .has_bias = true},
           {.int8_blocks = 1, .granularity = Granularity::kProgressive},
           {.int8_blocks = 1, .scale = ActScale::kS1, .granularity = Granularity::kGroup}}) {
    Case sized = c;
    sized.part_rows = {128 * 300 + 8, 40};
    sized.k = 384;
    check_case(bench, sized, {1, 32, 64, 130});
    if (HasFatalFailure()) return;
  }
  // Tiles of 256 rows of which the last one has 128.
  const Case odd{.part_rows = {128 * 300 + 8},
                 .k = 384,
                 .int8_blocks = 3,
                 .granularity = Granularity::kProgressive};
  check_case(bench, odd, {130});
}

/// Producers and products that feed one another, in a graph, where each starts before the one
/// before it has ended, give the bits of launches one at a time; copies come in between.
void check_graph(Bench& bench, int64_t tokens, int num_links, int num_replays) {
  Context& ctx = bench.gpu_ctx();
  const ArenaScope scope(ctx.arena);
  const int64_t k = bench.device.spec.k;
  Rng rng(7);
  std::vector<float> x(static_cast<size_t>(tokens * k));
  for (float& value : x) value = rng.next_normal();
  const Tensor first = copy_to_device(ctx, make_tensor(Shape{tokens, k}, x));
  const auto bytes = static_cast<size_t>(first.num_bytes());
  const Tensor rows[] = {ctx.arena.alloc(DType::kF32, {tokens, k}),
                         ctx.arena.alloc(DType::kF32, {tokens, k})};
  const auto copy_first = [&](const Tensor& to) {
    COMET_CUDA(
        cudaMemcpyAsync(to.raw(), first.raw(), bytes, cudaMemcpyDeviceToDevice, ctx.cuda->stream));
  };
  const auto run_links = [&] {
    for (int link = 0; link < num_links; ++link) {
      const ArenaScope of_link(ctx.arena);
      if (link % 5 == 0) copy_first(rows[link % 2]);
      const Activation input =
          bench.device.backend->input_from_rows(ctx, bench.device, rows[link % 2]);
      bench.device.kernel->run(ctx, bench.device, input, rows[(link + 1) % 2]);
    }
  };
  run_links();
  const Tensor& last = rows[num_links % 2];
  const Tensor want = copy_to_host(ctx, last);
  const CudaGraph graph = CudaGraph::capture(ctx.cuda->stream, run_links);
  for (int replay = 0; replay < num_replays; ++replay) {
    COMET_CUDA(cudaMemsetAsync(last.raw(), kPoison, bytes, ctx.cuda->stream));
    graph.launch(ctx.cuda->stream);
    const Tensor got = copy_to_host(ctx, last);
    for (int64_t i = 0; i < want.num_elements(); ++i) {
      ASSERT_TRUE(same(got.data<float>()[i], want.data<float>()[i]))
          << tokens << " tokens, replay " << replay << ", element " << i << ": "
          << got.data<float>()[i] << " for " << want.data<float>()[i];
    }
  }
}

TEST(W4axCuda, DependentProductsInAGraph) {
  Bench bench = open_bench();
  if (!bench.gpu) GTEST_SKIP() << "no GPU";
  for (const Case& c :
       std::vector<Case>{{.part_rows = {4096}, .k = 4096, .int8_blocks = 1},
                         {.part_rows = {4096},
                          .k = 4096,
                          .int8_blocks = 32,
                          .granularity = Granularity::kProgressive},
                         {.part_rows = {4096}, .k = 4096, .int8_blocks = 1, .scale = ActScale::kS1},
                         {.part_rows = {4096},
                          .k = 4096,
                          .int8_blocks = 1,
                          .scale = ActScale::kS1,
                          .granularity = Granularity::kGroup},
                         {.part_rows = {640}, .k = 640, .int8_blocks = 1, .permuted = false}}) {
    bench.load(random_weight(c));
    for (const int64_t tokens : {1, 5, 16, 32, 64, 100, 256}) {
      check_graph(bench, tokens, 24, 10);
      if (HasFatalFailure()) return;
    }
  }
}

/// The largest sums: −8 · 127 and ±127 · 127 over the most channels.
TEST(W4axCuda, ExtremeSums) {
  Bench bench = open_bench();
  if (!bench.gpu) GTEST_SKIP() << "no GPU";
  for (const int64_t k : {int64_t{4096}, kMaxChannels}) {
    for (const int code : {-8, 7}) {
      Case c{.part_rows = {2}, .k = k, .int8_blocks = k / 128, .permuted = false};
      QuantizedWeight w = random_weight(c);
      std::fill(w.codes.begin(), w.codes.end(), static_cast<int8_t>(code));
      bench.load(w);
      check_rows(bench, std::vector<float>(static_cast<size_t>(3 * k), 127.0F), label(c, 3));
      c.granularity = Granularity::kProgressive;
      w = random_weight(c);
      std::fill(w.codes.begin(), w.codes.end(), static_cast<int8_t>(code < 0 ? 0 : 15));
      std::fill(w.group_multiplier.begin(), w.group_multiplier.end(), uint8_t{16});
      std::fill(w.group_offset.begin(), w.group_offset.end(),
                static_cast<int8_t>(code < 0 ? -119 : -121));
      bench.load(w);
      check_rows(bench, std::vector<float>(static_cast<size_t>(3 * k), -127.0F), label(c, 3));
      if (HasFatalFailure()) return;
    }
  }
}

}  // namespace
}  // namespace comet::formats::w4ax
