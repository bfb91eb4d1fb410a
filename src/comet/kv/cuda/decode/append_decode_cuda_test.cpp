// The kernel that appends a step's tokens and attends to them gives the bits of the two kernels.
#include <gtest/gtest.h>

#include <cmath>

#include "comet/base/rng.h"
#include "comet/kv/cuda/append/append.h"
#include "comet/kv/cuda/decode/decode.h"
#include "comet/kv/cuda/page_reader.h"

namespace comet::kv {
namespace {

using testing::DeviceArray;
using testing::DevicePages;
using testing::NamedFormat;

constexpr int kNumSms = 132;
constexpr int kNumLaunches = 10;

/// A step's new tokens: fused BF16 rows q | k | v, each the last of its sequence.
struct Step {
  RaggedBatch batch;
  DevicePages pages;
  DeviceArray<uint16_t> fused;
  DeviceArray<int32_t> positions, slots, kv_lens, tables;
  DeviceArray<float> inv_freq, norm;
  DeviceArray<uint16_t> q_out, out;
  AppendParams append;
  DecodeParams decode;
  DecodePlan plan;

  Step(const RaggedCase& c, const NamedFormat& format, const CudaResources& gpu, bool rotate)
      : batch(c.seqs, c.tables),
        pages(c, format),
        fused(random_bits(c)),
        positions(last_rows(c, false)),
        slots(last_rows(c, true)),
        kv_lens(batch.kv_lens),
        tables(batch.tables),
        inv_freq(std::vector<float>(static_cast<size_t>(c.head_dim / 2), 0.01F)),
        norm(std::vector<float>(static_cast<size_t>(c.head_dim), 0.7F)),
        q_out(c.seqs.size() * static_cast<size_t>(c.num_heads * c.head_dim)),
        out(c.seqs.size() * static_cast<size_t>(c.num_heads * c.head_dim)) {
    pages.encode(gpu.stream);
    append.q = fused.get();
    append.k = append.q + c.num_heads * c.head_dim;
    append.v = append.k + c.kv_heads * c.head_dim;
    append.q_stride = append.k_stride = append.v_stride = stride(c);
    append.positions = positions.get();
    append.slots = slots.get();
    append.inv_freq = inv_freq.get();
    append.q_norm = append.k_norm = rotate ? norm.get() : nullptr;
    append.norm_eps = 1e-6F;
    append.rotate = rotate;
    append.q_out = q_out.get();
    append.pages = pages.get();
    append.num_tokens = static_cast<int>(c.seqs.size());
    append.num_heads = static_cast<int>(c.num_heads);
    append.num_kv_heads = static_cast<int>(c.kv_heads);
    append.overlaps = true;
    decode.q = q_out.get();
    decode.pages = pages.get();
    decode.kv_lens = kv_lens.get();
    decode.block_tables = tables.get();
    decode.block_table_stride = batch.max_pages;
    decode.out = out.get();
    decode.out_stride = c.num_heads * c.head_dim;
    decode.num_seqs = append.num_tokens;
    decode.num_heads = append.num_heads;
    decode.num_kv_heads = append.num_kv_heads;
    decode.bulk_copies = decode.overlaps = decode.old_pages_settled = true;
    plan = decode_plan(decode, format.page, static_cast<int>(c.head_dim),
                       batch.max_pages * kPageRows, kNumSms);
  }

  static int64_t stride(const RaggedCase& c) { return (c.num_heads + 2 * c.kv_heads) * c.head_dim; }
  static std::vector<uint16_t> random_bits(const RaggedCase& c) {
    Rng rng(77);
    std::vector<uint16_t> bits;
    for (size_t i = 0; i < c.seqs.size() * static_cast<size_t>(stride(c)); ++i) {
      bits.push_back(testing::f32_to_bf16(rng.next_normal()));
    }
    return bits;
  }
  static std::vector<int32_t> last_rows(const RaggedCase& c, bool as_slots) {
    std::vector<int32_t> rows;
    for (size_t s = 0; s < c.seqs.size(); ++s) {
      const int32_t last = c.seqs[s].kv_len - 1;
      rows.push_back(as_slots ? c.tables[s][static_cast<size_t>(last / kPageRows)] * kPageRows +
                                    last % kPageRows
                              : last);
    }
    return rows;
  }
};

struct Result {
  std::vector<uint16_t> out;
  std::vector<std::vector<float>> k, v;
};

Result run(const RaggedCase& c, const NamedFormat& format, const CudaResources& gpu, bool rotate,
           bool in_one) {
  const Step step(c, format, gpu, rotate);
  const auto dim = static_cast<int>(c.head_dim);
  EXPECT_TRUE(step.plan.can_append);
  // The kernel before writes no page: the two kernels are not launched again.
  for (int i = 0; i < (in_one ? kNumLaunches : 1); ++i) {
    if (in_one) {
      COMET_CUDA(launch_append_decode(step.append, step.decode, step.plan, dim, gpu.stream));
    } else {
      COMET_CUDA(launch_append(step.append, format.page, dim, gpu.stream));
      COMET_CUDA(launch_decode(step.decode, step.plan, format.page, dim, gpu.stream));
    }
  }
  COMET_CUDA(cudaStreamSynchronize(gpu.stream));
  Result result{step.out.to_host(), {}, {}};
  step.pages.read(result.k, result.v);
  return result;
}

TEST(AppendDecodeCuda, BitsOfTheTwoKernels) {
  const auto gpu = comet::testing::open_gpu();
  if (!gpu || gpu->sm != 90) GTEST_SKIP() << "no GPU of sm_90";
  const std::vector<SeqLen> lens{{1, 1},  {1, 2},   {1, 31},  {1, 32},  {1, 33},
                                 {1, 97}, {1, 256}, {1, 257}, {1, 300}, {1, 1024}};
  const NamedFormat format{PageFormat::kKv4, &kv4_format()};
  for (const int64_t dim : {64, 128}) {
    for (const auto& [num_heads, kv_heads] :
         {std::pair{2, 2}, std::pair{7, 1}, std::pair{8, 2}, std::pair{16, 2}, std::pair{24, 6}}) {
      for (const bool rotate : {false, true}) {
        const RaggedCase c(lens, num_heads, kv_heads, dim, 5);
        const Result want = run(c, format, *gpu, rotate, false);
        const Result got = run(c, format, *gpu, rotate, true);
        const auto what = ::testing::Message()
                          << "head_dim " << dim << " heads " << num_heads << "/" << kv_heads;
        EXPECT_EQ(got.out, want.out) << what;
        EXPECT_EQ(got.k, want.k) << what;
        EXPECT_EQ(got.v, want.v) << what;
      }
    }
  }
}

TEST(AppendDecodeCuda, PlansThatItDoesNotTake) {
  EXPECT_EQ(launch_append_decode({}, {.num_seqs = 1}, {}, 128, nullptr), cudaErrorInvalidValue);
  DecodeParams params;
  params.num_seqs = 1;
  params.num_heads = 32;
  params.num_kv_heads = 8;
  params.bulk_copies = true;
  const auto can_append = [&](PageFormat format, int64_t max_kv_len) {
    return decode_plan(params, format, 128, max_kv_len, kNumSms).can_append;
  };
  EXPECT_TRUE(can_append(PageFormat::kKv4, 1024));
  EXPECT_FALSE(can_append(PageFormat::kKv4, 1025));  // splits are quicker
  EXPECT_FALSE(can_append(PageFormat::kKv8, 256));
  params.num_heads = 128;  // sixteen a KV head: two passes
  EXPECT_FALSE(can_append(PageFormat::kKv4, 256));
  params.num_heads = 32;
  params.num_seqs = 9;  // more than half an SM a CTA
  EXPECT_FALSE(can_append(PageFormat::kKv4, 256));
}

}  // namespace
}  // namespace comet::kv
