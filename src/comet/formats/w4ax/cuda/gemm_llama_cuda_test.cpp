// w4ax's kernels on every linear of LLaMA-3 8B and 70B, INT8 blocks from none to all: all outputs,
// bit for bit, against a plain kernel, which is itself held to reference_linear on a sample.
#include <gtest/gtest.h>

#include <cmath>

#include "comet/base/rng.h"
#include "comet/formats/w4ax/layout.h"
#include "comet/formats/w4ax/w4ax.h"
#include "support/gpu.h"
#include "support/reference_products.h"

namespace comet::formats::w4ax {
namespace {

using ::comet::testing::DeviceArray;

constexpr int64_t kRowCounts[] = {1, 3, 16, 64, 100, 256, 1024};
constexpr int64_t kMaxRows = 1024;
constexpr int64_t kGuard = 3;       // columns behind n that nobody may write
constexpr int64_t kSampleRows = 2;  // tokens of the sample

struct Mode {
  Granularity granularity = Granularity::kChannel;
  ActScale scale = ActScale::kS2;
  int64_t int8_blocks = 0;
};

/// INT8 blocks: none, one, half, all.
std::vector<Mode> modes_of(int64_t blocks) {
  using enum Granularity;
  using enum ActScale;
  return {{kChannel, kS2, 0},
          {kChannel, kS2, 1},
          {kChannel, kS2, blocks / 2},
          {kChannel, kS2, blocks},
          {kChannel, kS2h, 1},
          {kChannel, kS1, 0},
          {kChannel, kS1, 1},
          {kChannel, kS1, blocks},
          {kGroup, kS2, 1},
          {kGroup, kS1, 0},
          {kGroup, kS1, 1},
          {kGroup, kS1, blocks},
          {kProgressive, kS2, 0},
          {kProgressive, kS2, 1},
          {kProgressive, kS2, blocks},
          {kProgressive, kS2h, 0},
          {kProgressive, kS1, blocks / 2}};
}

std::vector<uint8_t> random_bytes(size_t count, uint64_t seed) {
  Rng rng(seed);
  std::vector<uint8_t> bytes((count + 7) / 8 * 8);
  for (size_t i = 0; i < bytes.size(); i += 8) {
    const uint64_t bits = rng.next_bits();
    std::memcpy(bytes.data() + i, &bits, 8);
  }
  bytes.resize(count);
  return bytes;
}

/// A linear of n outputs (a multiple of 128) on the host. `packed`: any nibbles.
LinearWeight random_linear(const Tensor& packed, int64_t k, const Mode& mode) {
  Rng rng(11);
  const int64_t n = packed.size(0) * kTileRows;
  const Shape groups{k / kBlock, n};
  LinearWeight weight{&w4ax_format(), {}, std::vector<Tensor>(kNumTensors), nullptr, nullptr};
  weight.spec.name = "linear";
  weight.spec.parts = {"linear"};
  weight.spec.part_rows = {n};
  weight.spec.k = k;
  auto meta = std::make_shared<Meta>();
  meta->site.k = meta->site.k_padded = k;
  meta->site.int8_blocks = mode.int8_blocks;
  meta->site.scale = mode.scale;
  meta->granularity = mode.granularity;
  meta->tiles = row_tiles(weight.spec.part_rows);
  weight.meta = std::move(meta);
  weight.tensors[kPacked] = packed;
  if (mode.granularity == Granularity::kGroup) {
    Tensor& scales = weight.tensors[kGroupScale];
    scales = allocate_tensor(host_allocator(), DType::kF16, groups);
    for (int64_t i = 0; i < groups.num_elements(); ++i) {
      scales.data<Float16>()[i] = to_float16(rng.next_uniform() * 0.1F);
    }
    return weight;
  }
  weight.tensors[kChannelScale] = allocate_tensor(host_allocator(), DType::kF32, {n});
  for (int64_t i = 0; i < n; ++i) {
    weight.tensors[kChannelScale].data<float>()[i] = rng.next_uniform() * 0.01F;
  }
  if (mode.granularity == Granularity::kChannel) return weight;
  weight.tensors[kMultiplier] = allocate_tensor(host_allocator(), DType::kU8, groups);
  weight.tensors[kOffset] = allocate_tensor(host_allocator(), DType::kI8, groups);
  for (int64_t i = 0; i < groups.num_elements(); ++i) {  // −127 ≤ u·g + o ≤ 127
    const auto g = static_cast<int>(1 + rng.next_below(16));
    const auto o = static_cast<int>(rng.next_below(static_cast<uint64_t>(255 - 15 * g))) - 127;
    weight.tensors[kMultiplier].data<uint8_t>()[i] = static_cast<uint8_t>(g);
    weight.tensors[kOffset].data<int8_t>()[i] = static_cast<int8_t>(o);
  }
  return weight;
}

/// Codes of kMaxRows tokens on the host: 4-bit ones in INT4 blocks; the first rows have them all at
/// their ends, one scale is 0 and one NaN.
Activation random_input(const LinearWeight& weight, const std::vector<uint8_t>& bytes) {
  const Meta& meta = meta_of(weight);
  const int64_t k = meta.site.k_padded;
  Activation input;
  input.rows = kMaxRows;
  input.parts[kCodes] = allocate_tensor(host_allocator(), DType::kI8, {kMaxRows, k});
  auto* codes = input.parts[kCodes].data<int8_t>();
  for (int64_t row = 0; row < kMaxRows; ++row) {
    for (int64_t i = 0; i < k; ++i) {
      const int most = i < meta.site.int4_channels() ? 7 : 127;
      const int random = bytes[static_cast<size_t>(row * k + i)] % (2 * most + 1) - most;
      codes[row * k + i] = static_cast<int8_t>(row == 0 ? most : row == 2 ? -most : random);
    }
  }
  const int64_t per_row = meta.site.scale == ActScale::kS1 ? meta.site.num_blocks() : 2;
  input.parts[kScales] = allocate_tensor(host_allocator(), DType::kF32, {kMaxRows, per_row});
  Rng rng(5);
  auto* scales = input.parts[kScales].data<float>();
  for (int64_t i = 0; i < kMaxRows * per_row; ++i) scales[i] = rng.next_uniform() * 0.1F;
  std::fill_n(scales + 5 * per_row, per_row, 0.0F);
  std::fill_n(scales + 6 * per_row, per_row, std::nanf(""));
  return input;
}

Activation first_rows(const Activation& input, int64_t rows) {
  Activation part;
  part.rows = rows;
  part.parts[kCodes] = input.parts[kCodes].slice(0, 0, rows);
  part.parts[kScales] = input.parts[kScales].slice(0, 0, rows);
  return part;
}

/// What the plain kernel says of all tokens, on the GPU.
struct Expected {
  Expected(const CudaResources& gpu, const LinearWeight& device, const Activation& input)
      : y(static_cast<size_t>(kMaxRows * device.spec.n())) {
    const Meta& meta = meta_of(device);
    const std::vector<Tensor>& tensors = device.tensors;
    testing::W4axOperands p;
    p.packed = tensors[kPacked].data<uint8_t>();
    if (tensors[kChannelScale].defined()) p.channel_scale = tensors[kChannelScale].data<float>();
    if (tensors[kGroupScale].defined()) {
      p.group_scale = reinterpret_cast<const uint16_t*>(tensors[kGroupScale].raw());
    }
    if (tensors[kMultiplier].defined()) {
      p.multiplier = tensors[kMultiplier].data<uint8_t>();
      p.offset = tensors[kOffset].data<int8_t>();
    }
    p.num_tiles = static_cast<int32_t>(meta.tiles.size());
    p.blocks = static_cast<int32_t>(meta.site.num_blocks());
    p.int4_blocks = p.blocks - static_cast<int32_t>(meta.site.int8_blocks);
    p.block_scales = meta.site.scale == ActScale::kS1;
    p.codes = input.parts[kCodes].data<int8_t>();
    p.x_scales = input.parts[kScales].data<float>();
    p.tokens = static_cast<int32_t>(input.rows);
    const DeviceArray<int8_t> codes8(static_cast<size_t>(device.spec.n() * meta.site.k_padded));
    testing::launch_w4ax_reference(p, codes8.get(), y.get(), gpu.stream);
    COMET_CUDA(cudaStreamSynchronize(gpu.stream));
  }
  DeviceArray<float> y;
};

/// One tile of 128 outputs of a weight on the host, as a weight.
LinearWeight tile_of(const LinearWeight& weight, int64_t tile) {
  const Meta& meta = meta_of(weight);
  const int64_t blocks = meta.site.num_blocks();
  const Mode mode{meta.granularity, meta.site.scale, meta.site.int8_blocks};
  LinearWeight part =
      random_linear(weight.tensors[kPacked].slice(0, tile, tile + 1), weight.spec.k, mode);
  const auto copy_groups = [&](int slot, int64_t element_bytes) {
    if (!weight.tensors[slot].defined()) return;
    const int64_t row_bytes = kTileRows * element_bytes;
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t from = (b * static_cast<int64_t>(meta.tiles.size()) + tile) * row_bytes;
      std::memcpy(part.tensors[slot].raw() + b * row_bytes, weight.tensors[slot].raw() + from,
                  static_cast<size_t>(row_bytes));
    }
  };
  copy_groups(kGroupScale, 2);
  copy_groups(kMultiplier, 1);
  copy_groups(kOffset, 1);
  if (weight.tensors[kChannelScale].defined()) {
    std::copy_n(weight.tensors[kChannelScale].data<float>() + tile * kTileRows, kTileRows,
                part.tensors[kChannelScale].data<float>());
  }
  return part;
}

/// The plain kernel against the CPU's reference: one tile, some tokens.
void check_sample(const LinearWeight& host, const Activation& input, const Expected& expected) {
  const int64_t tile = host.spec.n() / kTileRows - 2;
  const LinearWeight part = tile_of(host, tile);
  std::vector<float> want(static_cast<size_t>(kSampleRows * kTileRows));
  reference_linear(part, first_rows(input, kSampleRows), {want.data(), {kSampleRows, kTileRows}});
  std::vector<float> got(want.size());
  COMET_CUDA(cudaMemcpy2D(got.data(), kTileRows * sizeof(float),
                          expected.y.get() + tile * kTileRows,
                          static_cast<size_t>(host.spec.n()) * sizeof(float),
                          kTileRows * sizeof(float), kSampleRows, cudaMemcpyDeviceToHost));
  ASSERT_EQ(std::memcmp(want.data(), got.data(), want.size() * sizeof(float)), 0)
      << "the plain kernel is not reference_linear";
}

void check_rows(Context& ctx, const LinearWeight& device, const Activation& input,
                const Expected& expected, DType out_type) {
  const int64_t n = device.spec.n();
  const DeviceArray<uint64_t> counts(2);
  for (const LinearKernel& kernel : device.backend->kernels) {
    if (!kernel.supports(device, ctx.caps)) continue;
    const ArenaScope scope(ctx.arena);
    const Tensor out = ctx.arena.alloc(out_type, {input.rows, n + kGuard});
    COMET_CUDA(
        cudaMemsetAsync(out.raw(), 0xFF, static_cast<size_t>(out.num_bytes()), ctx.cuda->stream));
    kernel.run(ctx, device, input, out.slice(1, 0, n));
    testing::launch_count_different({out.raw(), out_type == DType::kBF16, n + kGuard,
                                     static_cast<int32_t>(input.rows), static_cast<int32_t>(n)},
                                    expected.y.get(), counts.get(), ctx.cuda->stream);
    const std::vector<uint64_t> different = counts.to_host();
    ASSERT_EQ(different[0], 0U) << kernel.name << " " << input.rows << " tokens to "
                                << dtype_name(out_type) << ": first at row "
                                << different[1] / static_cast<uint64_t>(n + kGuard) << ", column "
                                << different[1] % static_cast<uint64_t>(n + kGuard);
  }
}

void check_shape(Context& ctx, int64_t n, int64_t k) {
  const int64_t blocks = k / kBlock;
  Tensor packed =
      allocate_tensor(host_allocator(), DType::kU8, {n / kTileRows, blocks, kTileBytes});
  const auto nibbles = random_bytes(static_cast<size_t>(packed.num_bytes()), 3);
  std::memcpy(packed.raw(), nibbles.data(), nibbles.size());
  const auto bytes = random_bytes(static_cast<size_t>(kMaxRows * k), 4);
  for (const Mode& mode : modes_of(blocks)) {
    SCOPED_TRACE(fmt::format("{} {} n={} k={} int8={}", granularity_name(mode.granularity),
                             act_scale_name(mode.scale), n, k, mode.int8_blocks));
    const LinearWeight host = random_linear(packed, k, mode);
    LinearWeight device = host;
    ASSERT_TRUE(plan_linear(device, ctx.caps).ok());
    ASSERT_TRUE(device.backend->prepare(ctx, device).ok());
    const Activation host_input = random_input(host, bytes);
    Activation input;
    input.rows = kMaxRows;
    for (const int part : {kCodes, kScales}) {
      input.parts[part] = copy_to_device(ctx, host_input.parts[part]);
    }
    const Expected expected(*ctx.cuda, device, input);
    check_sample(host, host_input, expected);
    if (::testing::Test::HasFatalFailure()) return;
    for (const int64_t rows : kRowCounts) {
      check_rows(ctx, device, first_rows(input, rows), expected, DType::kF32);
      if (rows % 2 == 0) check_rows(ctx, device, first_rows(input, rows), expected, DType::kBF16);
      if (::testing::Test::HasFatalFailure()) return;
    }
  }
}

class W4axLlamaCuda : public ::testing::TestWithParam<std::pair<int64_t, int64_t>> {};

TEST_P(W4axLlamaCuda, AllOutputsBitForBit) {
  const auto runtime = Runtime::cuda(0, 1);
  if (!runtime) GTEST_SKIP() << "no GPU";
  check_shape((*runtime)->context(), GetParam().first, GetParam().second);
}

INSTANTIATE_TEST_SUITE_P(Linears, W4axLlamaCuda,
                         ::testing::Values(std::pair{6144, 4096}, std::pair{4096, 4096},
                                           std::pair{28672, 4096}, std::pair{4096, 14336},
                                           std::pair{10240, 8192}, std::pair{8192, 8192},
                                           std::pair{57344, 8192}, std::pair{8192, 28672}),
                         [](const auto& shape) {
                           return fmt::format("{}x{}", shape.param.first, shape.param.second);
                         });

}  // namespace
}  // namespace comet::formats::w4ax
