// Decode and prefill attention against float64 over what the cache itself holds: head_dims, groups,
// ragged lengths, splits, chunks, pages out of order, poisoned pages and outputs.
#include <gtest/gtest.h>

#include "comet/kv/cuda/decode/decode.h"
#include "comet/kv/cuda/page_reader.h"
#include "comet/kv/cuda/prefill/prefill.h"

namespace comet::kv {
namespace {

using testing::all_page_formats;
using testing::DeviceArray;
using testing::DevicePages;
using testing::NamedFormat;

constexpr int kNumSms = 132;
constexpr int64_t kOutPadding = 6;  // columns behind a row of out that stay poison

/// Arrays of a case on the GPU, with q as BF16 and the outputs poisoned.
struct DeviceCase {
  DevicePages pages;
  std::vector<std::vector<float>> k, v;  // what the pages hold
  DeviceArray<uint16_t> q;
  DeviceArray<int32_t> kv_lens, tables, cu_seqlens;
  int64_t table_stride;
  int64_t num_rows;
  int64_t out_stride;

  /// Rounds the case's queries to BF16.
  DeviceCase(RaggedCase& c, const NamedFormat& format, cudaStream_t stream)
      : DeviceCase(c, RaggedBatch(c.seqs, c.tables), rounded(c.q), format, stream) {}

 private:
  DeviceCase(const RaggedCase& c, const RaggedBatch& batch, const std::vector<uint16_t>& q_bits,
             const NamedFormat& format, cudaStream_t stream)
      : pages(c, format),
        q(q_bits),
        kv_lens(batch.kv_lens),
        tables(batch.tables),
        cu_seqlens(batch.cu_seqlens),
        table_stride(batch.max_pages),
        num_rows(batch.cu_seqlens.back()),
        out_stride(c.num_heads * c.head_dim + kOutPadding) {
    pages.encode(stream);
    pages.read(k, v);
  }
  static std::vector<uint16_t> rounded(std::vector<std::vector<float>>& q) {
    std::vector<uint16_t> all;
    for (std::vector<float>& part : q) {
      for (float& x : part) {
        all.push_back(testing::f32_to_bf16(x));
        x = testing::bf16_to_f32(all.back());
      }
    }
    return all;
  }
};

struct Errors {
  double worst = 0;     // |out − reference| over the largest |v|, rounding of out to BF16 aside
  double relative = 0;  // ‖out − reference‖ / ‖reference‖
  int64_t num_nan = 0;
  int64_t num_overrun = 0;  // padding that was written
};

Errors errors_of(const RaggedCase& c, const DeviceCase& device, const std::vector<uint16_t>& out,
                 const std::vector<double>& want) {
  double max_value = 0;
  for (const auto& seq : device.v) {
    for (const float x : seq) max_value = std::max(max_value, std::fabs(static_cast<double>(x)));
  }
  Errors e;
  double difference = 0;
  double norm = 0;
  const int64_t columns = c.num_heads * c.head_dim;
  for (int64_t row = 0; row < device.num_rows; ++row) {
    for (int64_t i = 0; i < device.out_stride; ++i) {
      const uint16_t bits = out[row * device.out_stride + i];
      if (i >= columns) {
        e.num_overrun += bits == 0xFFFF ? 0 : 1;
        continue;
      }
      const double reference = want[row * columns + i];
      const double error = std::fabs(testing::bf16_to_f32(bits) - reference);
      if (!(error < INFINITY)) {
        ++e.num_nan;
        continue;
      }
      const double half_ulp = std::fabs(reference) / 256;
      e.worst = std::max(e.worst, (error - half_ulp) / max_value);
      difference += error * error;
      norm += reference * reference;
    }
  }
  e.relative = std::sqrt(difference / norm);
  return e;
}

void expect_small(const Errors& e, const std::string& what) {
  EXPECT_LE(e.worst, 2e-3) << what;
  EXPECT_LE(e.relative, 4e-3) << what;
  EXPECT_EQ(e.num_nan, 0) << what;
  EXPECT_EQ(e.num_overrun, 0) << what;
}

std::string describe(const NamedFormat& format, const RaggedCase& c, const std::string& more) {
  return std::string(format.format->name) + " head_dim " + std::to_string(c.head_dim) + " heads " +
         std::to_string(c.num_heads) + "/" + std::to_string(c.kv_heads) + " " + more;
}

DecodeParams decode_params(const RaggedCase& c, const DeviceCase& device, uint16_t* out) {
  DecodeParams params;
  params.q = device.q.get();
  params.pages = device.pages.get();
  params.kv_lens = device.kv_lens.get();
  params.block_tables = device.tables.get();
  params.block_table_stride = device.table_stride;
  params.out = out;
  params.out_stride = device.out_stride;
  params.num_seqs = static_cast<int>(c.seqs.size());
  params.num_heads = static_cast<int>(c.num_heads);
  params.num_kv_heads = static_cast<int>(c.kv_heads);
  return params;
}

/// A plan with this many pages a split, whatever is wise.
DecodePlan plan_of(const RaggedCase& c, int64_t max_kv_len, int pages_per_split) {
  DecodePlan plan;
  plan.pages_per_split = pages_per_split;
  const auto max_pages = static_cast<int>((max_kv_len + kPageRows - 1) / kPageRows);
  plan.num_splits = (max_pages + pages_per_split - 1) / pages_per_split;
  plan.workspace_floats =
      static_cast<int64_t>(c.seqs.size()) * c.num_heads * plan.num_splits * (c.head_dim + 2);
  return plan;
}

/// How a launch reads pages.
struct Reading {
  bool bulk;
  bool early;  // old pages before the kernel ahead ends

  [[nodiscard]] std::string name() const {
    return std::string(bulk ? "bulk copies" : "cp.async") + (early ? ", early" : "");
  }
};

std::vector<uint16_t> run_decode(const RaggedCase& c, const DeviceCase& device, DecodePlan plan,
                                 const NamedFormat& format, Reading reading, cudaStream_t stream) {
  const DeviceArray<uint16_t> out(static_cast<size_t>(device.num_rows * device.out_stride));
  const DeviceArray<float> workspace(static_cast<size_t>(plan.workspace_floats));
  DecodeParams params = decode_params(c, device, out.get());
  params.workspace = workspace.get();
  params.bulk_copies = reading.bulk;
  params.overlaps = reading.early;
  params.old_pages_settled = reading.early;
  COMET_CUDA(launch_decode(params, plan, format.page, static_cast<int>(c.head_dim), stream));
  return out.to_host();
}

int64_t max_kv_len(const RaggedCase& c) {
  int64_t longest = 0;
  for (const SeqLen& len : c.seqs) longest = std::max<int64_t>(longest, len.kv_len);
  return (longest + 255) / 256 * 256;
}

void check_decode(const CudaResources& gpu, const NamedFormat& format, RaggedCase c) {
  const DeviceCase device(c, format, gpu.stream);
  const std::vector<double> want = reference_attention(c, device.k, device.v);
  const int64_t longest = max_kv_len(c);
  std::vector<DecodePlan> plans{decode_plan(decode_params(c, device, nullptr), format.page,
                                            static_cast<int>(c.head_dim), longest, kNumSms)};
  for (const int pages : {1, 3, 1000}) plans.push_back(plan_of(c, longest, pages));
  if (format.page == PageFormat::kKv4 && gpu.sm == 90) {
    for (const int pages : {3, 1000}) {
      plans.push_back(plan_of(c, longest, pages));
      plans.back().many_warps = true;
    }
  }
  for (const DecodePlan& plan : plans) {
    const std::vector<uint16_t> first =
        run_decode(c, device, plan, format, {false, false}, gpu.stream);
    const std::string what = describe(
        format, c,
        std::to_string(plan.num_splits) + " splits" + (plan.many_warps ? ", many warps" : ""));
    expect_small(errors_of(c, device, first, want), what);
    for (const Reading reading : {Reading{false, true}, {true, false}, {true, true}}) {
      if (reading.bulk && gpu.sm != 90) continue;
      EXPECT_EQ(first, run_decode(c, device, plan, format, reading, gpu.stream))
          << what << ", " << reading.name();
    }
  }
}

TEST(DecodeCuda, MatchesFloat64) {
  const auto gpu = comet::testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  const std::vector<SeqLen> lens{{1, 1},  {1, 2},   {1, 31},  {1, 32},  {1, 33}, {1, 64},
                                 {1, 97}, {1, 128}, {1, 255}, {1, 256}, {1, 300}};
  struct Heads {
    int64_t num_heads, kv_heads;
  };
  uint64_t seed = 1;
  for (const int64_t dim : {64, 128}) {
    for (const NamedFormat& format : all_page_formats()) {
      for (const Heads heads : {Heads{2, 2}, {8, 2}, {7, 1}, {16, 2}, {12, 1}, {40, 2}}) {
        check_decode(*gpu, format, RaggedCase(lens, heads.num_heads, heads.kv_heads, dim, ++seed));
      }
      check_decode(*gpu, format, RaggedCase({{1, 5000}, {1, 40}}, 8, 2, dim, ++seed));
    }
  }
}

/// Every kernel with few CTAs, for compute-sanitizer.
TEST(DecodeCuda, SmallCasesOfEveryKernel) {
  const auto gpu = comet::testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  for (const int64_t dim : {64, 128}) {
    for (const NamedFormat& format : all_page_formats()) {
      check_decode(*gpu, format, RaggedCase({{1, 33}, {1, 420}}, 8, 2, dim, 3));
      check_decode(*gpu, format, RaggedCase({{1, 70}}, 16, 1, dim, 4));
    }
  }
}

/// Graphs are padded with empty sequences, whose table may hold anything.
TEST(DecodeCuda, EmptySequencesGiveZeros) {
  const auto gpu = comet::testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  for (const NamedFormat& format : all_page_formats()) {
    RaggedCase c({{1, 40}}, 8, 2, 128, 7);
    const DeviceCase device(c, format, gpu->stream);
    const DeviceArray<int32_t> kv_lens(std::vector<int32_t>{0, 40, 0});
    std::vector<int32_t> rows(6, -1);
    std::copy(c.tables[0].begin(), c.tables[0].end(), rows.begin() + 2);
    const DeviceArray<int32_t> tables(rows);
    const std::vector<uint16_t> one = device.q.to_host();
    std::vector<uint16_t> three;
    for (int i = 0; i < 3; ++i) three.insert(three.end(), one.begin(), one.end());
    const DeviceArray<uint16_t> queries(three);
    const DeviceArray<uint16_t> out(3 * 1024);
    for (const int pages_per_split : {1, 2}) {
      const DeviceArray<float> workspace(size_t{3} * 8 * 2 * 130);
      DecodeParams params = decode_params(c, device, out.get());
      params.q = queries.get();
      params.kv_lens = kv_lens.get();
      params.block_tables = tables.get();
      params.block_table_stride = 2;
      params.out_stride = 1024;
      params.num_seqs = 3;
      params.workspace = workspace.get();
      params.bulk_copies = gpu->sm == 90;
      DecodePlan plan;
      plan.pages_per_split = pages_per_split;
      plan.num_splits = 2 / pages_per_split;
      COMET_CUDA(launch_decode(params, plan, format.page, 128, gpu->stream));
      const std::vector<uint16_t> bits = out.to_host();
      int64_t num_wrong = 0;
      for (size_t i = 0; i < 1024; ++i) {
        num_wrong += testing::bf16_to_f32(bits[i]) != 0.0F;
        num_wrong += testing::bf16_to_f32(bits[2048 + i]) != 0.0F;
        num_wrong += testing::bf16_to_f32(bits[1024 + i]) == 0.0F;
      }
      EXPECT_EQ(num_wrong, 0) << format.format->name;
    }
  }
}

PrefillParams prefill_params(const RaggedCase& c, const DeviceCase& device, uint16_t* out) {
  PrefillParams params;
  params.q = device.q.get();
  params.pages = device.pages.get();
  params.cu_seqlens = device.cu_seqlens.get();
  params.kv_lens = device.kv_lens.get();
  params.block_tables = device.tables.get();
  params.block_table_stride = device.table_stride;
  params.out = out;
  params.out_stride = device.out_stride;
  params.num_seqs = static_cast<int>(c.seqs.size());
  params.num_heads = static_cast<int>(c.num_heads);
  params.num_kv_heads = static_cast<int>(c.kv_heads);
  for (const SeqLen& len : c.seqs) {
    params.max_query_len = std::max(params.max_query_len, static_cast<int>(len.num_queries));
  }
  return params;
}

/// Room for a case's pages as kv16.
struct WidePages {
  int max_pages;
  DeviceArray<uint8_t> pages;
  DeviceArray<int32_t> tables;

  explicit WidePages(const RaggedCase& c)
      : max_pages(static_cast<int>(max_kv_len(c) / kPageRows)),
        pages(c.seqs.size() * max_pages * kv16_format().page_bytes(c.shape())),
        tables(c.seqs.size() * max_pages) {}

  void expand(PrefillParams& params, const NamedFormat& format, int dim,
              cudaStream_t stream) const {
    ExpandParams expand;
    expand.pages = params.pages;
    expand.kv_lens = params.kv_lens;
    expand.block_tables = params.block_tables;
    expand.block_table_stride = params.block_table_stride;
    expand.wide_pages = pages.get();
    expand.wide_tables = tables.get();
    expand.num_seqs = params.num_seqs;
    expand.num_kv_heads = params.num_kv_heads;
    expand.max_pages = max_pages;
    COMET_CUDA(launch_expand(expand, format.page, dim, stream));
    params.pages = pages.get();
    params.block_tables = tables.get();
    params.block_table_stride = max_pages;
    params.is_half = true;
  }
};

void check_prefill(const CudaResources& gpu, const NamedFormat& format, RaggedCase c) {
  const DeviceCase device(c, format, gpu.stream);
  const std::vector<double> want = reference_attention(c, device.k, device.v);
  for (const bool hopper : {false, true}) {
    if (hopper && gpu.sm != 90) continue;
    const std::string what = describe(format, c, hopper ? "wgmma" : "mma");
    std::vector<uint16_t> first;
    for (int run = 0; run < 2; ++run) {
      const DeviceArray<uint16_t> out(static_cast<size_t>(device.num_rows * device.out_stride));
      PrefillParams params = prefill_params(c, device, out.get());
      const auto dim = static_cast<int>(c.head_dim);
      const WidePages wide(c);
      if (hopper && format.page != PageFormat::kKv16) wide.expand(params, format, dim, gpu.stream);
      COMET_CUDA(hopper ? launch_prefill_sm90(params, dim, gpu.stream)
                        : launch_prefill(params, format.page, dim, gpu.stream));
      const std::vector<uint16_t> bits = out.to_host();
      if (run == 0) {
        expect_small(errors_of(c, device, bits, want), what);
        first = bits;
      }
      EXPECT_EQ(first, bits) << what << ": two runs differ";
    }
  }
}

TEST(PrefillCuda, MatchesFloat64) {
  const auto gpu = comet::testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  const std::vector<SeqLen> lens{{2, 2},     {5, 300},   {64, 64},   {65, 129}, {127, 127},
                                 {128, 128}, {129, 129}, {130, 300}, {1, 77},   {300, 300},
                                 {17, 17},   {100, 256}, {0, 50}};
  struct Heads {
    int64_t num_heads, kv_heads;
  };
  uint64_t seed = 100;
  for (const int64_t dim : {64, 128}) {
    for (const NamedFormat& format : all_page_formats()) {
      for (const Heads heads : {Heads{2, 2}, {4, 1}, {7, 1}, {8, 1}}) {
        check_prefill(*gpu, format, RaggedCase(lens, heads.num_heads, heads.kv_heads, dim, ++seed));
      }
      check_prefill(*gpu, format, RaggedCase({{40, 5000}, {270, 700}}, 2, 1, dim, ++seed));
      for (const int32_t len : {1, 2, 3, 31, 32, 33, 96, 160, 192, 257}) {
        check_prefill(*gpu, format, RaggedCase({{len, len}}, 2, 1, dim, ++seed));
      }
    }
  }
}

/// Every kernel with few CTAs, for compute-sanitizer: tiles of 128 keys pass through two stages.
TEST(PrefillCuda, SmallCasesOfEveryKernel) {
  const auto gpu = comet::testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  for (const int64_t dim : {64, 128}) {
    for (const NamedFormat& format : all_page_formats()) {
      check_prefill(*gpu, format, RaggedCase({{9, 590}, {130, 130}}, 2, 1, dim, 5));
    }
  }
}

/// Heads of LLaMA-3 8B and 70B, decode and prefill.
TEST(AttentionLlamaCuda, MatchesFloat64) {
  const auto gpu = comet::testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  uint64_t seed = 200;
  for (const int64_t num_heads : {32, 64}) {
    for (const NamedFormat& format : all_page_formats()) {
      check_decode(*gpu, format,
                   RaggedCase({{1, 1}, {1, 513}, {1, 2048}}, num_heads, 8, 128, ++seed));
      check_prefill(*gpu, format, RaggedCase({{150, 150}, {33, 700}}, num_heads, 8, 128, ++seed));
    }
  }
}

/// Against K and V before they were coded.
TEST(PrefillCuda, FormatsKeepTheirError) {
  const auto gpu = comet::testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  const double least[] = {0, 4e-3, 4e-2};
  const double most[] = {8e-3, 2.5e-2, 0.25};
  for (const NamedFormat& format : all_page_formats()) {
    RaggedCase c({{120, 200}}, 4, 2, 128, 11);
    for (auto& seq : c.q) {
      for (float& x : seq) x *= 0.5F;
    }
    const DeviceCase device(c, format, gpu->stream);
    const DeviceArray<uint16_t> out(static_cast<size_t>(device.num_rows * device.out_stride));
    COMET_CUDA(launch_prefill(prefill_params(c, device, out.get()), format.page, 128, gpu->stream));
    const Errors e = errors_of(c, device, out.to_host(), reference_attention(c, c.k, c.v));
    const auto i = static_cast<int>(format.page);
    EXPECT_LE(e.relative, most[i]) << format.format->name;
    EXPECT_GE(e.relative, least[i]) << format.format->name << ": is it coded at all?";
  }
}

}  // namespace
}  // namespace comet::kv
