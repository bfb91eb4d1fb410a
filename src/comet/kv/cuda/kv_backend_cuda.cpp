#include <cstring>

#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/cuda_resources.h"
#include "comet/device/cuda/device_memory.h"
#include "comet/kv/cuda/append/append.h"
#include "comet/kv/cuda/decode/decode.h"
#include "comet/kv/cuda/kv_backend.h"
#include "comet/kv/cuda/page_map.h"
#include "comet/kv/cuda/prefill/prefill.h"
#include "comet/kv/kv16/kv16.h"

namespace comet::kv {

static_assert(kPageRows == kPageTokens);

namespace {

/// Bulk copies and wgmma; the code for cards behind it comes from compute_80 PTX and has neither.
constexpr int kHopper = 90;
/// Coded pages of a step are expanded for prefill up to this much.
constexpr int64_t kMaxWideBytes = int64_t{1} << 30;

bool page_format_of(std::string_view name, PageFormat& format) {
  if (name == "kv16") format = PageFormat::kKv16;
  if (name == "kv8") format = PageFormat::kKv8;
  if (name == "kv4") format = PageFormat::kKv4;
  return name == "kv16" || name == "kv8" || name == "kv4";
}

/// What attend_cuda's kernels agree on.
struct Step {
  PageFormat format{};
  int head_dim = 0;
  int num_heads = 0;
  int num_kv_heads = 0;
  uint16_t* q = nullptr;  // BF16 [tokens, heads, head_dim]
};

AppendParams append_params(const Context& ctx, const KvAttendArgs& args, const Step& step) {
  const HeadsInput& heads = args.heads;
  const auto norm_of = [&](const View<const float, 1>& weight) {
    return weight.size(0) > 0 ? weight.data : nullptr;
  };
  AppendParams params;
  params.q = static_cast<const uint16_t*>(heads.q.data);
  params.k = static_cast<const uint16_t*>(heads.k.data);
  params.v = static_cast<const uint16_t*>(heads.v.data);
  params.q_stride = heads.q.stride;
  params.k_stride = heads.k.stride;
  params.v_stride = heads.v.stride;
  params.positions = args.batch.positions;
  params.slots = args.batch.slots;
  params.inv_freq = heads.inv_freq.data();
  params.q_norm = norm_of(heads.q_norm);
  params.k_norm = norm_of(heads.k_norm);
  params.norm_eps = heads.norm_eps;
  params.rotate = args.rotate;
  params.q_out = step.q;
  params.pages = reinterpret_cast<uint8_t*>(args.pages);
  params.num_saturated = args.num_saturated;
  params.num_tokens = static_cast<int>(args.batch.num_tokens);
  params.num_heads = step.num_heads;
  params.num_kv_heads = step.num_kv_heads;
  params.overlaps = ctx.cuda->sm == kHopper;
  return params;
}

DecodeParams decode_params(const Context& ctx, const KvAttendArgs& args, const Step& step) {
  const DeviceBatch& batch = args.batch;
  DecodeParams params;
  params.q = step.q;
  params.pages = reinterpret_cast<const uint8_t*>(args.pages);
  params.kv_lens = batch.kv_lens;
  params.block_tables = batch.block_tables;
  params.block_table_stride = batch.block_table_stride;
  params.out = static_cast<uint16_t*>(args.out.data);
  params.out_stride = args.out.stride;
  params.num_seqs = static_cast<int>(batch.num_decode_seqs);
  params.num_heads = step.num_heads;
  params.num_kv_heads = step.num_kv_heads;
  // Small blocks gain by them, large ones do not (docs/kernels/attention_cuda.md).
  params.bulk_copies = ctx.cuda->sm == kHopper && step.format == PageFormat::kKv4;
  params.overlaps = ctx.cuda->sm == kHopper;
  params.old_pages_settled = true;  // a step's arrays are copied between its kernels and the last's
  return params;
}

void append_step(Context& ctx, const KvAttendArgs& args, const Step& step) {
  const AppendParams params = append_params(ctx, args, step);
  COMET_CUDA(launch_append(params, step.format, step.head_dim, ctx.cuda->stream));
}

DecodePlan plan_decode(const Context& ctx, const KvAttendArgs& args, const Step& step) {
  return decode_plan(decode_params(ctx, args, step), step.format, step.head_dim,
                     args.batch.max_kv_len, ctx.cuda->num_sms);
}

void decode_step(Context& ctx, const KvAttendArgs& args, const Step& step) {
  DecodeParams params = decode_params(ctx, args, step);
  const DecodePlan plan = plan_decode(ctx, args, step);
  if (plan.workspace_floats > 0) {
    params.workspace = ctx.arena.alloc_array<float>(plan.workspace_floats);
  }
  COMET_CUDA(launch_decode(params, plan, step.format, step.head_dim, ctx.cuda->stream));
}

/// A step of few sequences with one new token each: both in one kernel. False, and nothing done,
/// elsewhere.
bool append_and_decode(Context& ctx, const KvAttendArgs& args, const Step& step) {
  if (args.batch.num_decode_seqs != args.batch.num_seqs) return false;
  const DecodePlan plan = plan_decode(ctx, args, step);
  if (!plan.can_append) return false;
  COMET_CUDA(launch_append_decode(append_params(ctx, args, step), decode_params(ctx, args, step),
                                  plan, step.head_dim, ctx.cuda->stream));
  return true;
}

/// Points `params` to kv16 pages that wgmma reads: the cache's own, or copies of coded ones in the
/// arena. False, and nothing done, where those would take more than kMaxWideBytes.
bool expand_pages(Context& ctx, const KvAttendArgs& args, const Step& step, PrefillParams& params) {
  if (step.format == PageFormat::kKv16) return true;
  const int64_t max_pages = (args.batch.max_kv_len + kPageTokens - 1) / kPageTokens;
  const int64_t num_pages = params.num_seqs * max_pages;
  const int64_t wide_bytes = num_pages * kv16_format().page_bytes(args.shape);
  if (wide_bytes > kMaxWideBytes) return false;
  ExpandParams expand;
  expand.pages = params.pages;
  expand.kv_lens = params.kv_lens;
  expand.block_tables = params.block_tables;
  expand.block_table_stride = params.block_table_stride;
  expand.wide_pages = ctx.arena.alloc_array<uint8_t>(wide_bytes);
  expand.wide_tables = ctx.arena.alloc_array<int32_t>(num_pages);
  expand.num_seqs = params.num_seqs;
  expand.num_kv_heads = params.num_kv_heads;
  expand.max_pages = static_cast<int>(max_pages);
  COMET_CUDA(launch_expand(expand, step.format, step.head_dim, ctx.cuda->stream));
  params.pages = expand.wide_pages;
  params.block_tables = expand.wide_tables;
  params.block_table_stride = max_pages;
  params.is_half = true;
  return true;
}

void prefill_step(Context& ctx, const KvAttendArgs& args, const Step& step) {
  const DeviceBatch& batch = args.batch;
  const int64_t first = batch.num_decode_seqs;
  PrefillParams params;
  params.q = step.q;
  params.pages = reinterpret_cast<const uint8_t*>(args.pages);
  params.cu_seqlens = batch.cu_seqlens + first;
  params.kv_lens = batch.kv_lens + first;
  params.block_tables = batch.block_tables + first * batch.block_table_stride;
  params.block_table_stride = batch.block_table_stride;
  params.out = static_cast<uint16_t*>(args.out.data);
  params.out_stride = args.out.stride;
  params.num_seqs = static_cast<int>(batch.num_seqs - first);
  params.num_heads = step.num_heads;
  params.num_kv_heads = step.num_kv_heads;
  params.max_query_len = static_cast<int>(batch.max_query_len);
  if (ctx.cuda->sm == kHopper && expand_pages(ctx, args, step, params)) {
    COMET_CUDA(launch_prefill_sm90(params, step.head_dim, ctx.cuda->stream));
  } else {
    COMET_CUDA(launch_prefill(params, step.format, step.head_dim, ctx.cuda->stream));
  }
}

}  // namespace

Status check_cuda_cache(const KvFormat& format, const KvShape& shape, const KvOptions& options) {
  PageFormat page_format{};
  if (!page_format_of(format.name, page_format)) {
    return make_error(
        ErrorCode::kUnsupported,
        "KV cache {}: no attention kernel on a GPU; expected kv16, kv8 or kv4: choose "
        "one with --kv, or --device cpu",
        format.name);
  }
  if (shape.head_dim != 64 && shape.head_dim != 128) {
    return make_error(ErrorCode::kUnsupported,
                      "KV cache {}: head_dim is {}; on a GPU attention has kernels for 64 and 128: "
                      "use --device cpu",
                      format.name, shape.head_dim);
  }
  if (format.narrow && options.has_window()) {
    return make_error(
        ErrorCode::kUnsupported,
        "kv_cache.window is [{}, {}]; attention on a GPU has no BF16 window: quantize "
        "with --kv-window 0,0, or use --device cpu",
        options.window_first, options.window_recent);
  }
  return {};
}

std::shared_ptr<Storage> make_gpu_counter() {
  auto counter = std::make_shared<Storage>(pinned_allocator(), sizeof(uint64_t));
  std::memset(counter->data(), 0, sizeof(uint64_t));
  return counter;
}

void attend_cuda(Context& ctx, const KvAttendArgs& args) {
  const HeadsInput& heads = args.heads;
  const DeviceBatch& batch = args.batch;
  if (batch.num_tokens == 0) return;
  Step step;
  COMET_CHECK(page_format_of(args.format->name, step.format), "KV cache {} on a GPU",
              args.format->name);
  step.head_dim = static_cast<int>(args.shape.head_dim);
  step.num_heads = static_cast<int>(heads.q.num_columns / args.shape.head_dim);
  step.num_kv_heads = static_cast<int>(args.shape.num_kv_heads);
  COMET_CHECK(heads.q.dtype == DType::kBF16 && heads.k.dtype == DType::kBF16 &&
                  heads.v.dtype == DType::kBF16 && args.out.dtype == DType::kBF16,
              "q {}, k {}, v {}, out {}", dtype_name(heads.q.dtype), dtype_name(heads.k.dtype),
              dtype_name(heads.v.dtype), dtype_name(args.out.dtype));
  COMET_CHECK(heads.k.num_columns == args.shape.num_kv_heads * args.shape.head_dim &&
                  heads.v.num_columns == heads.k.num_columns &&
                  step.num_heads % step.num_kv_heads == 0 && heads.q.num_rows == batch.num_tokens,
              "q [{}, {}], k of {}, v of {} columns, {} KV heads of {}, {} tokens",
              heads.q.num_rows, heads.q.num_columns, heads.k.num_columns, heads.v.num_columns,
              args.shape.num_kv_heads, args.shape.head_dim, batch.num_tokens);
  COMET_CHECK(heads.q.stride % 2 == 0 && heads.k.stride % 2 == 0 && heads.v.stride % 2 == 0 &&
                  args.out.stride % 2 == 0,
              "rows {}, {}, {}, {} apart; kernels read pairs", heads.q.stride, heads.k.stride,
              heads.v.stride, args.out.stride);
  if (append_and_decode(ctx, args, step)) return;
  const ArenaScope scratch(ctx.arena);  // later launches of the stream may reuse it
  const Tensor q =
      ctx.arena.alloc(DType::kBF16, {batch.num_tokens, int64_t{step.num_heads} * step.head_dim});
  step.q = reinterpret_cast<uint16_t*>(q.raw());
  append_step(ctx, args, step);
  if (batch.num_decode_seqs > 0) decode_step(ctx, args, step);
  if (batch.num_seqs > batch.num_decode_seqs) prefill_step(ctx, args, step);
}

}  // namespace comet::kv
