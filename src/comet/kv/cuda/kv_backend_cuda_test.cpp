// KvCache on a GPU against KvCache on a CPU: fused BF16 rows, norms, RoPE, rotation, a prompt in
// chunks, then decode and prefill in one batch.
#include <gtest/gtest.h>

#include "comet/device/cuda/cuda_resources.h"
#include "comet/kv/cuda/kv_backend.h"
#include "comet/kv/cuda/page_reader.h"
#include "comet/kv/stage_batch.h"

namespace comet::kv {
namespace {

using testing::NamedFormat;

/// A step's fused q | k | v rows and the weights of the heads, in host memory.
struct StepRows {
  Tensor fused;  // BF16 [tokens, columns]
  Tensor q_norm, k_norm, inv_freq;
  int64_t num_heads, kv_heads, head_dim;
};

Tensor f32_tensor(const std::vector<float>& values) {
  const auto storage = std::make_shared<Storage>(host_allocator(), values.size() * sizeof(float));
  std::memcpy(storage->data(), values.data(), values.size() * sizeof(float));
  return {storage, 0, DType::kF32, {static_cast<int64_t>(values.size())}};
}

StepRows random_rows(int64_t num_tokens, const RaggedCase& c, uint64_t seed) {
  StepRows rows{{}, {}, {}, {}, c.num_heads, c.kv_heads, c.head_dim};
  Rng rng(seed);
  const int64_t columns = (c.num_heads + 2 * c.kv_heads) * c.head_dim;
  const auto storage =
      std::make_shared<Storage>(host_allocator(), static_cast<size_t>(num_tokens * columns * 2));
  rows.fused = Tensor(storage, 0, DType::kBF16, {num_tokens, columns});
  auto* bits = reinterpret_cast<uint16_t*>(rows.fused.raw());
  for (int64_t i = 0; i < num_tokens * columns; ++i) {
    bits[i] = testing::f32_to_bf16(rng.next_normal());
  }
  std::vector<float> q, k, frequencies;
  for (int64_t i = 0; i < c.head_dim; ++i) {
    q.push_back(1.0F + 0.2F * rng.next_normal());
    k.push_back(1.0F + 0.2F * rng.next_normal());
  }
  for (int64_t i = 0; i < c.head_dim / 2; ++i) {
    frequencies.push_back(
        static_cast<float>(std::pow(10000.0, -2.0 * static_cast<double>(i) / c.head_dim)));
  }
  rows.q_norm = f32_tensor(q);
  rows.k_norm = f32_tensor(k);
  rows.inv_freq = f32_tensor(frequencies);
  return rows;
}

/// Views of fused rows (on either device); `keep` owns what they point to.
HeadsInput heads_of(Context& ctx, const StepRows& rows, bool norm, std::vector<Tensor>& keep) {
  const int64_t q = rows.num_heads * rows.head_dim;
  const int64_t kv = rows.kv_heads * rows.head_dim;
  Tensor fused = rows.fused;
  if (ctx.cuda == nullptr) {  // the CPU's products are FP32
    const int64_t count = fused.num_elements();
    fused = f32_tensor(std::vector<float>(static_cast<size_t>(count)))
                .reshape({rows.fused.size(0), rows.fused.size(1)});
    const auto* bits = reinterpret_cast<const uint16_t*>(rows.fused.raw());
    for (int64_t i = 0; i < count; ++i) fused.data<float>()[i] = testing::bf16_to_f32(bits[i]);
  }
  const auto here = [&](const Tensor& host) {
    keep.push_back(copy_to_device(ctx, host));
    return keep.back();
  };
  fused = here(fused);
  HeadsInput heads;
  heads.q = Rows(fused.slice(1, 0, q));
  heads.k = Rows(fused.slice(1, q, q + kv));
  heads.v = ConstRows(fused.slice(1, q + kv, q + 2 * kv));
  if (norm) {
    heads.q_norm = here(rows.q_norm).view<const float, 1>();
    heads.k_norm = here(rows.k_norm).view<const float, 1>();
  }
  heads.norm_eps = 1e-6F;
  const Tensor inv_freq = here(rows.inv_freq);
  heads.inv_freq = {reinterpret_cast<const float*>(inv_freq.raw()),
                    static_cast<size_t>(rows.head_dim / 2)};
  return heads;
}

/// Outputs of all steps, one after another, as FP32.
std::vector<float> run_steps(Context& ctx, const NamedFormat& format, const RaggedCase& c,
                             const std::vector<std::vector<int32_t>>& ends, bool norm,
                             bool rotate) {
  KvOptions options;
  options.rotate = rotate;
  auto cache = KvCache::create(*format.format, c.shape(), 2, c.num_pages, options, 1, &ctx);
  COMET_CHECK(cache.ok(), "{}", cache.error().message);
  std::vector<float> outputs;
  std::vector<int32_t> begin(c.seqs.size(), 0);
  for (size_t step = 0; step < ends.size(); ++step) {
    std::vector<SeqLen> lens;
    for (size_t s = 0; s < c.seqs.size(); ++s) {
      lens.push_back({ends[step][s] - begin[s], ends[step][s]});
    }
    begin = ends[step];
    const RaggedBatch ragged(lens, c.tables);
    const StepRows rows = random_rows(ragged.cu_seqlens.back(), c, 50 + step);
    const ArenaScope scope(ctx.arena);
    std::vector<Tensor> keep;
    const HeadsInput heads = heads_of(ctx, rows, norm, keep);
    const Batch batch = stage_batch(ctx, ragged.batch());
    const Tensor out = copy_to_host(ctx, cache->attend(ctx, 1, heads, batch));
    for (int64_t i = 0; i < out.num_elements(); ++i) {
      outputs.push_back(out.dtype() == DType::kF32
                            ? out.data<float>()[i]
                            : testing::bf16_to_f32(reinterpret_cast<uint16_t*>(out.raw())[i]));
    }
  }
  return outputs;
}

TEST(KvBackendCuda, StepsMatchTheCpus) {
  if (!comet::testing::open_gpu()) GTEST_SKIP() << "no GPU";
  auto gpu = Runtime::cuda(0, 1);
  ASSERT_TRUE(gpu.ok()) << gpu.error().message;
  const auto cpu = Runtime::cpu(CpuIsa::kPortable, 1);
  for (const int64_t dim : {64, 128}) {
    const RaggedCase c({{1, 140}, {1, 33}, {1, 70}}, 6, 2, dim, 9);
    // A prompt each in one or two chunks; then two decode steps beside the rest of the third.
    const std::vector<std::vector<int32_t>> ends{
        {100, 31, 0}, {138, 31, 40}, {139, 32, 69}, {140, 33, 70}};
    for (const NamedFormat& format : testing::all_page_formats()) {
      for (const bool rotate : {false, true}) {
        const bool norm = rotate;
        const std::vector<float> want = run_steps(cpu->context(), format, c, ends, norm, rotate);
        const std::vector<float> got = run_steps((*gpu)->context(), format, c, ends, norm, rotate);
        ASSERT_EQ(want.size(), got.size());
        double difference = 0;
        double sum = 0;
        for (size_t i = 0; i < want.size(); ++i) {
          difference += std::pow(static_cast<double>(want[i]) - got[i], 2);
          sum += std::pow(static_cast<double>(want[i]), 2);
        }
        // q is BF16 on the GPU; codes may differ where RoPE's last bit does.
        EXPECT_LE(std::sqrt(difference / sum), 1e-2)
            << format.format->name << " head_dim " << dim << " rotate " << rotate;
      }
    }
  }
}

/// One step of 3 tokens whose second has values that no FP16 scale reaches; the rows counted.
int64_t count_saturated(Context& ctx, const NamedFormat& format, const RaggedCase& c) {
  auto cache = KvCache::create(*format.format, c.shape(), 1, c.num_pages, {}, 1, &ctx);
  COMET_CHECK(cache.ok(), "{}", cache.error().message);
  const RaggedBatch ragged(c.seqs, c.tables);
  const StepRows rows = random_rows(3, c, 1);
  const int64_t columns = rows.fused.size(1);
  auto* bits = reinterpret_cast<uint16_t*>(rows.fused.raw());
  for (int64_t i = columns - c.kv_heads * c.head_dim; i < columns; ++i) {
    bits[columns + i] = testing::f32_to_bf16(i % 2 == 0 ? 1e30F : -1e30F);
  }
  const ArenaScope scope(ctx.arena);
  std::vector<Tensor> keep;
  const HeadsInput heads = heads_of(ctx, rows, false, keep);
  const Batch batch = stage_batch(ctx, ragged.batch());
  copy_to_host(ctx, cache->attend(ctx, 0, heads, batch));  // waits for it
  return cache->num_saturated_rows();
}

TEST(KvBackendCuda, SaturatedRowsAreCounted) {
  if (!comet::testing::open_gpu()) GTEST_SKIP() << "no GPU";
  auto gpu = Runtime::cuda(0, 1);
  ASSERT_TRUE(gpu.ok()) << gpu.error().message;
  const auto cpu = Runtime::cpu(CpuIsa::kPortable, 1);
  const RaggedCase c({{3, 3}}, 4, 2, 64, 9);
  for (const NamedFormat& format : testing::all_page_formats()) {
    const int64_t want = count_saturated(cpu->context(), format, c);
    EXPECT_EQ(count_saturated((*gpu)->context(), format, c), want) << format.format->name;
    EXPECT_EQ(want, format.page == PageFormat::kKv16 ? 0 : 2) << format.format->name;
  }
}

TEST(KvBackendCuda, ErrorsNameWhatIsMissing) {
  const auto message = [](const KvFormat& format, int64_t dim, const KvOptions& options) {
    const Status status = check_cuda_cache(format, {2, dim}, options);
    return status ? std::string() : std::string(status.error().message);
  };
  EXPECT_EQ(message(kv4_format(), 128, {}), "");
  EXPECT_EQ(message(kv16_format(), 64, {}), "");
  EXPECT_NE(message(kv4_format(), 96, {}).find("head_dim is 96"), std::string::npos);
  KvOptions window;
  window.window_recent = 32;
  EXPECT_NE(message(kv4_format(), 128, window).find("window is [0, 32]"), std::string::npos);
  EXPECT_EQ(message(kv16_format(), 128, window), "");
  const auto fp8 = find_kv_format("kv8_fp8");
  ASSERT_TRUE(fp8.ok());
  EXPECT_NE(message(**fp8, 128, {}).find("kv8_fp8"), std::string::npos);
}

}  // namespace
}  // namespace comet::kv
