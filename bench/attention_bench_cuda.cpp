#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "bench/attention_bench.h"
#include "comet/base/rng.h"
#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/cuda_resources.h"
#include "comet/kv/cuda/append/append.h"
#include "comet/kv/cuda/decode/decode.h"
#include "comet/kv/cuda/prefill/prefill.h"
#include "comet/kv/kv_format.h"

namespace comet::bench {
namespace {

constexpr int64_t kSourceRows = 512;  // different rows of random values
constexpr int kHopper = 90;

kv::PageFormat page_format_of(const std::string& kv) {
  if (kv == "kv16") return kv::PageFormat::kKv16;
  return kv == "kv8" ? kv::PageFormat::kKv8 : kv::PageFormat::kKv4;
}

template <typename T>
Tensor to_device(Context& ctx, const std::vector<T>& values) {
  const auto storage =
      std::make_shared<Storage>(ctx.memory, std::max<size_t>(values.size(), 1) * sizeof(T));
  COMET_CUDA(cudaMemcpy(storage->data(), values.data(), values.size() * sizeof(T),
                        cudaMemcpyHostToDevice));
  return {storage, 0, DType::kU8, {static_cast<int64_t>(values.size() * sizeof(T))}};
}

template <typename T>
T* pointer_to(const Tensor& tensor) {
  return reinterpret_cast<T*>(tensor.raw());
}

Tensor device_bytes(Context& ctx, int64_t num_bytes) {
  return {std::make_shared<Storage>(ctx.memory, static_cast<size_t>(num_bytes)),
          0,
          DType::kU8,
          {num_bytes}};
}

/// Standard normal BF16 values.
std::vector<uint16_t> random_bf16(int64_t count, uint64_t seed) {
  Rng rng(seed);
  std::vector<uint16_t> values(static_cast<size_t>(count));
  for (uint16_t& value : values) {
    const float x = rng.next_normal();
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof(bits));
    value = static_cast<uint16_t>(bits >> 16);
  }
  return values;
}

/// Several layers of a filled cache, and what a step needs beside it.
class BenchCache {
 public:
  BenchCache(Context& ctx, const AttentionCase& what, uint64_t seed);

  [[nodiscard]] uint8_t* layer(int64_t call_idx) const {
    return pointer_to<uint8_t>(pages_) + call_idx % num_layers * layer_bytes;
  }
  [[nodiscard]] kv::AppendParams append_params(int64_t call_idx) const;
  [[nodiscard]] kv::DecodeParams decode_params(int64_t call_idx) const;
  [[nodiscard]] kv::PrefillParams prefill_params(int64_t call_idx) const;

  int64_t layer_bytes = 0;
  int64_t num_layers = 1;

 private:
  void fill(Context& ctx);

  const AttentionCase& what_;
  int64_t num_queries_;
  int64_t pages_per_seq_;
  int64_t columns_;  // of a source row: q | k | v
  Tensor source_, q_, out_, pages_;
  Tensor tables_, kv_lens_, cu_seqlens_, positions_, slots_, inv_freq_;
};

BenchCache::BenchCache(Context& ctx, const AttentionCase& what, uint64_t seed)
    : what_(what),
      num_queries_(what.batch * what.query_len),
      pages_per_seq_((what.kv_len + kv::kPageTokens - 1) / kv::kPageTokens),
      columns_((what.num_heads + 2 * what.num_kv_heads) * what.head_dim) {
  const auto format = kv::find_kv_format(what.kv);
  COMET_CHECK(format.ok(), "{}", what.kv);
  const int64_t num_pages = what.batch * pages_per_seq_;
  layer_bytes = num_pages * (*format)->page_bytes({what.num_kv_heads, what.head_dim});
  num_layers = num_rotating_buffers(layer_bytes);
  pages_ = device_bytes(ctx, num_layers * layer_bytes);
  const int64_t q_bytes = num_queries_ * what.num_heads * what.head_dim * 2;
  q_ = device_bytes(ctx, q_bytes);
  out_ = device_bytes(ctx, q_bytes);

  Rng rng(seed);
  std::vector<int32_t> tables(static_cast<size_t>(num_pages));
  std::iota(tables.begin(), tables.end(), 0);
  for (size_t i = tables.size(); i > 1; --i) std::swap(tables[i - 1], tables[rng.next_below(i)]);
  std::vector<int32_t> positions, slots, cu_seqlens{0};
  for (int64_t s = 0; s < what.batch; ++s) {
    for (int64_t t = 0; t < what.kv_len; ++t) {
      positions.push_back(static_cast<int32_t>(t));
      slots.push_back(tables[s * pages_per_seq_ + t / kv::kPageTokens] *
                          static_cast<int32_t>(kv::kPageTokens) +
                      static_cast<int32_t>(t % kv::kPageTokens));
    }
    cu_seqlens.push_back(static_cast<int32_t>((s + 1) * what.query_len));
  }
  std::vector<float> inv_freq;
  for (int64_t i = 0; i < what.head_dim / 2; ++i) {
    inv_freq.push_back(
        std::pow(500000.0F, -2.0F * static_cast<float>(i) / static_cast<float>(what.head_dim)));
  }
  tables_ = to_device(ctx, tables);
  positions_ = to_device(ctx, positions);
  slots_ = to_device(ctx, slots);
  cu_seqlens_ = to_device(ctx, cu_seqlens);
  inv_freq_ = to_device(ctx, inv_freq);
  kv_lens_ = to_device(ctx, std::vector<int32_t>(static_cast<size_t>(what.batch),
                                                 static_cast<int32_t>(what.kv_len)));
  source_ = to_device(ctx, random_bf16(kSourceRows * columns_, seed + 1));
  fill(ctx);
}

/// Every layer with random keys and values, and q.
void BenchCache::fill(Context& ctx) {
  const int64_t num_tokens = what_.batch * what_.kv_len;
  for (int64_t layer_idx = 0; layer_idx < num_layers; ++layer_idx) {
    for (int64_t begin = 0; begin < num_tokens; begin += kSourceRows) {
      kv::AppendParams params = append_params(layer_idx);
      params.num_heads = 0;
      params.positions += begin;
      params.slots += begin;
      params.num_tokens = static_cast<int>(std::min(kSourceRows, num_tokens - begin));
      COMET_CUDA(kv::launch_append(params, page_format_of(what_.kv),
                                   static_cast<int>(what_.head_dim), ctx.cuda->stream));
    }
  }
  const int64_t row_bytes = what_.num_heads * what_.head_dim * 2;
  for (int64_t begin = 0; begin < num_queries_; begin += kSourceRows) {
    COMET_CUDA(cudaMemcpy2DAsync(q_.raw() + begin * row_bytes, static_cast<size_t>(row_bytes),
                                 source_.raw(), static_cast<size_t>(columns_ * 2),
                                 static_cast<size_t>(row_bytes),
                                 static_cast<size_t>(std::min(kSourceRows, num_queries_ - begin)),
                                 cudaMemcpyDeviceToDevice, ctx.cuda->stream));
  }
}

kv::AppendParams BenchCache::append_params(int64_t call_idx) const {
  kv::AppendParams params;
  params.q = pointer_to<const uint16_t>(source_);
  params.k = params.q + what_.num_heads * what_.head_dim;
  params.v = params.k + what_.num_kv_heads * what_.head_dim;
  params.q_stride = params.k_stride = params.v_stride = columns_;
  params.positions = pointer_to<const int32_t>(positions_);
  params.slots = pointer_to<const int32_t>(slots_);
  params.inv_freq = pointer_to<const float>(inv_freq_);
  params.q_out = pointer_to<uint16_t>(q_);
  params.pages = layer(call_idx);
  params.num_tokens = static_cast<int>(num_queries_);
  params.num_heads = static_cast<int>(what_.num_heads);
  params.num_kv_heads = static_cast<int>(what_.num_kv_heads);
  return params;
}

kv::DecodeParams BenchCache::decode_params(int64_t call_idx) const {
  kv::DecodeParams params;
  params.q = pointer_to<const uint16_t>(q_);
  params.pages = layer(call_idx);
  params.kv_lens = pointer_to<const int32_t>(kv_lens_);
  params.block_tables = pointer_to<const int32_t>(tables_);
  params.block_table_stride = pages_per_seq_;
  params.out = pointer_to<uint16_t>(out_);
  params.out_stride = what_.num_heads * what_.head_dim;
  params.num_seqs = static_cast<int>(what_.batch);
  params.num_heads = static_cast<int>(what_.num_heads);
  params.num_kv_heads = static_cast<int>(what_.num_kv_heads);
  return params;
}

kv::PrefillParams BenchCache::prefill_params(int64_t call_idx) const {
  const kv::DecodeParams same = decode_params(call_idx);
  kv::PrefillParams params;
  params.q = same.q;
  params.pages = same.pages;
  params.cu_seqlens = pointer_to<const int32_t>(cu_seqlens_);
  params.kv_lens = same.kv_lens;
  params.block_tables = same.block_tables;
  params.block_table_stride = same.block_table_stride;
  params.out = same.out;
  params.out_stride = same.out_stride;
  params.num_seqs = same.num_seqs;
  params.num_heads = same.num_heads;
  params.num_kv_heads = same.num_kv_heads;
  params.max_query_len = static_cast<int>(what_.query_len);
  return params;
}

/// Keys that the queries see, summed over queries and heads, times 4 · head_dim.
double flops_of(const AttentionCase& what) {
  const auto queries = static_cast<double>(what.query_len);
  const double keys = static_cast<double>(what.kv_len) - (queries - 1) / 2;
  return 4.0 * static_cast<double>(what.head_dim * what.num_heads * what.batch) * queries * keys;
}

AttentionTiming timed(Context& ctx, const BenchCache& cache, std::string kernel, double bytes,
                      double flops, const std::function<cudaError_t(int64_t)>& launch) {
  GpuTimerOptions options;
  options.num_buffers = cache.num_layers;
  const GpuTiming timing = time_on_gpu(ctx, [&](int64_t i) { COMET_CUDA(launch(i)); }, options);
  return {std::move(kernel), timing.us, bytes, flops, timing.state};
}

std::vector<AttentionTiming> time_decode(Context& ctx, const AttentionCase& what,
                                         const BenchCache& cache) {
  const kv::PageFormat format = page_format_of(what.kv);
  const auto dim = static_cast<int>(what.head_dim);
  const kv::DecodePlan plan =
      kv::decode_plan(cache.decode_params(0), format, dim, what.kv_len, ctx.cuda->num_sms);
  const Tensor workspace = device_bytes(ctx, plan.workspace_floats * 4 + 4);
  std::vector<AttentionTiming> timings;
  for (const bool bulk : {true, false}) {
    if (bulk && ctx.cuda->sm != kHopper) continue;
    timings.push_back(timed(ctx, cache, bulk ? "bulk" : "cp_async",
                            static_cast<double>(cache.layer_bytes), flops_of(what), [&](int64_t i) {
                              kv::DecodeParams params = cache.decode_params(i);
                              params.workspace = pointer_to<float>(workspace);
                              params.bulk_copies = bulk;
                              params.overlaps = bulk;
                              return kv::launch_decode(params, plan, format, dim, ctx.cuda->stream);
                            }));
  }
  return timings;
}

std::vector<AttentionTiming> time_prefill(Context& ctx, const AttentionCase& what,
                                          const BenchCache& cache) {
  const kv::PageFormat format = page_format_of(what.kv);
  const auto dim = static_cast<int>(what.head_dim);
  const auto bytes = static_cast<double>(cache.layer_bytes);
  std::vector<AttentionTiming> timings;
  if (ctx.cuda->sm == kHopper && format == kv::PageFormat::kKv16) {
    timings.push_back(timed(ctx, cache, "wgmma", bytes, flops_of(what), [&](int64_t i) {
      return kv::launch_prefill_sm90(cache.prefill_params(i), dim, ctx.cuda->stream);
    }));
  }
  if (ctx.cuda->sm == kHopper && format != kv::PageFormat::kKv16) {
    const int64_t max_pages = (what.kv_len + kv::kPageTokens - 1) / kv::kPageTokens;
    const kv::KvShape shape{what.num_kv_heads, what.head_dim};
    const Tensor wide = device_bytes(
        ctx, what.batch * max_pages * (*kv::find_kv_format("kv16"))->page_bytes(shape));
    const Tensor tables = device_bytes(ctx, what.batch * max_pages * 4);
    timings.push_back(timed(ctx, cache, "wgmma", bytes, flops_of(what), [&](int64_t i) {
      kv::PrefillParams params = cache.prefill_params(i);
      const kv::ExpandParams expand{params.pages,
                                    params.kv_lens,
                                    params.block_tables,
                                    params.block_table_stride,
                                    pointer_to<uint8_t>(wide),
                                    pointer_to<int32_t>(tables),
                                    params.num_seqs,
                                    params.num_kv_heads,
                                    static_cast<int>(max_pages)};
      const cudaError_t expanded = kv::launch_expand(expand, format, dim, ctx.cuda->stream);
      if (expanded != cudaSuccess) return expanded;
      params.pages = expand.wide_pages;
      params.block_tables = expand.wide_tables;
      params.block_table_stride = max_pages;
      params.is_half = true;
      return kv::launch_prefill_sm90(params, dim, ctx.cuda->stream);
    }));
  }
  timings.push_back(timed(ctx, cache, "mma", bytes, flops_of(what), [&](int64_t i) {
    return kv::launch_prefill(cache.prefill_params(i), format, dim, ctx.cuda->stream);
  }));
  return timings;
}

}  // namespace

std::vector<AttentionTiming> time_attention(Context& ctx, const AttentionCase& what,
                                            uint64_t seed) {
  const BenchCache cache(ctx, what, seed);
  if (what.kind == AttentionKind::kDecode) return time_decode(ctx, what, cache);
  if (what.kind == AttentionKind::kPrefill) return time_prefill(ctx, what, cache);
  const int64_t rows = what.batch * what.query_len;
  const int64_t q_bytes = rows * what.num_heads * what.head_dim * 2;
  const int64_t kv_bytes = rows * what.num_kv_heads * what.head_dim * 4;
  const double bytes = static_cast<double>(2 * q_bytes + kv_bytes) +
                       static_cast<double>(cache.layer_bytes) *
                           static_cast<double>(what.query_len) / static_cast<double>(what.kv_len);
  return {timed(ctx, cache, "append", bytes, 0, [&](int64_t i) {
    kv::AppendParams params = cache.append_params(i);
    params.num_tokens = static_cast<int>(std::min(rows, kSourceRows));
    return kv::launch_append(params, page_format_of(what.kv), static_cast<int>(what.head_dim),
                             ctx.cuda->stream);
  })};
}

}  // namespace comet::bench
