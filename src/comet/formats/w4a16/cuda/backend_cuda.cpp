// The CUDA backend of w4a16: weights become blocks (gemm.h) at load; inputs are BF16 rows, brought
// into the weight's order of channels where it has one.
// tensors once prepared: the blocks U8, then (has_bias) the bias F32 [n], then (ordered) the order
// I32 [k].
#include <algorithm>

#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/cuda_resources.h"
#include "comet/device/cuda/tensor_map.h"
#include "comet/device/cuda/upload.h"
#include "comet/formats/cuda/float_rows.h"
#include "comet/formats/cuda/linear_end.h"
#include "comet/formats/float_input.h"
#include "comet/formats/w4a16/cuda/gemm.h"
#include "comet/formats/w4a16/stored_part.h"
#include "comet/formats/w4a16/w4a16.h"

namespace comet::formats {
namespace w4a16 {
namespace {

using w4a16_cuda::Blocks;
using w4a16_cuda::GemmArgs;
using w4a16_cuda::GemmPlan;
using w4a16_cuda::PackedRows;
using w4a16_cuda::ScaleType;

constexpr int64_t kInputAlignment = 8;  // elements: 16 bytes

/// Replaces Layout once the weight is on the GPU.
struct PreparedWeight final : LinearMeta {
  Blocks blocks;  // data: tensors[0]
  Tensor bias;    // undefined: none
  Tensor order;   // undefined: the model's
};

const PreparedWeight& prepared(const LinearWeight& weight) {
  const auto* meta = dynamic_cast<const PreparedWeight*>(weight.meta.get());
  COMET_CHECK(meta != nullptr, "{}: not prepared for CUDA", weight.spec.name);
  return *meta;
}

/// The parts one below the other, on the device.
Tensor stack_parts(Context& ctx, const LinearWeight& weight, size_t first_slot) {
  const Tensor& first = weight.tensors[first_slot];
  const Tensor stacked =
      allocate_tensor(ctx.memory, first.dtype(), {weight.spec.n(), first.size(1)});
  std::byte* to = stacked.raw();
  for (size_t part = 0; part < weight.spec.parts.size(); ++part) {
    const Tensor& from = weight.tensors[first_slot + part];
    const auto bytes = static_cast<size_t>(from.num_bytes());
    upload(ctx.pool, *ctx.cuda, to, from.raw(), bytes);
    to += bytes;
  }
  return stacked;
}

Tensor bias_on_device(Context& ctx, const LinearWeight& weight) {
  const std::span<const Tensor> parts(&weight.tensors[bias_slot(weight, 0)],
                                      weight.spec.parts.size());
  return copy_to_device(ctx, float_elements(parts), {weight.spec.n()});
}

ScaleType scale_type_of(DType dtype) {
  if (dtype == DType::kF32) return ScaleType::kF32;
  return dtype == DType::kBF16 ? ScaleType::kBF16 : ScaleType::kF16;
}

Status prepare(Context& ctx, LinearWeight& weight) {
  const Layout& layout = layout_of(weight);
  const Tensor words = stack_parts(ctx, weight, packed_slot(0));
  const Tensor scales = stack_parts(ctx, weight, scale_slot(weight, 0));
  const Tensor zeros = layout.has_zeros ? stack_parts(ctx, weight, zero_slot(weight, 0)) : Tensor();
  PackedRows rows;
  rows.words = reinterpret_cast<const uint32_t*>(words.raw());
  rows.scales = scales.raw();
  rows.zeros = layout.has_zeros ? zeros.data<uint8_t>() : nullptr;
  rows.scale_type = scale_type_of(scales.dtype());
  rows.group = static_cast<int32_t>(layout.group);

  auto meta = std::make_shared<PreparedWeight>();
  meta->blocks =
      blocks_of(rows, static_cast<int32_t>(weight.spec.n()), static_cast<int32_t>(layout.k_padded));
  const Tensor data = allocate_tensor(ctx.memory, DType::kU8, {meta->blocks.num_bytes()});
  Blocks blocks = meta->blocks;
  blocks.data = data.data<uint8_t>();
  launch_repack(rows, blocks, ctx.cuda->stream);
  std::vector<Tensor> tensors{data};
  if (weight.spec.has_bias) tensors.push_back(meta->bias = bias_on_device(ctx, weight));
  if (!layout.order.empty()) {
    tensors.push_back(meta->order = copy_to_device(ctx, layout.order, {weight.spec.k}));
  }
  COMET_CUDA(cudaStreamSynchronize(ctx.cuda->stream));  // words and scales go now
  weight.tensors = std::move(tensors);
  weight.meta = std::move(meta);
  return {};
}

/// Rows as the kernels read them: in the weight's order, rows 16-byte aligned.
Activation arrange(Context& ctx, const LinearWeight& weight, Activation input) {
  const PreparedWeight& meta = prepared(weight);
  const Tensor& x = input.parts[0];
  if (!meta.order.defined() && x.stride(0) % kInputAlignment == 0) return input;
  const int64_t width = int64_t{meta.blocks.num_k_blocks} * w4a16_cuda::kBlockChannels;
  w4a16_cuda::GatherArgs args;
  args.x = x.raw();
  args.x_stride = x.stride(0);
  args.order = meta.order.defined() ? meta.order.data<int32_t>() : nullptr;
  args.k = static_cast<int32_t>(weight.spec.k);
  args.rows = static_cast<int32_t>(input.rows);
  const Tensor arranged = ctx.arena.alloc(DType::kBF16, {input.rows, width});
  args.out = arranged.raw();
  args.out_stride = width;
  launch_gather(args, ctx.cuda->stream);
  input.parts[0] = arranged;
  return input;
}

Activation input_from_rows(Context& ctx, const LinearWeight& weight, ConstRows x) {
  return arrange(ctx, weight, cuda_float_input_from_rows(ctx, weight, x));
}

Activation input_from_norm(Context& ctx, const LinearWeight& weight, const NormInput& input) {
  return arrange(ctx, weight, cuda_float_input_from_norm(ctx, weight, input));
}

Activation input_from_silu_mul(Context& ctx, const LinearWeight& weight,
                               const SiluMulInput& input) {
  return arrange(ctx, weight, cuda_float_input_from_silu_mul(ctx, weight, input));
}

GemmArgs args_of(const LinearWeight& weight, const Activation& x, const Rows& out) {
  const PreparedWeight& meta = prepared(weight);
  const Tensor& rows = x.parts[0];
  COMET_CHECK(rows.dtype() == DType::kBF16 && rows.stride(0) % kInputAlignment == 0,
              "{}: input rows of {}, {} apart", weight.spec.name, dtype_name(rows.dtype()),
              rows.stride(0));
  COMET_CHECK(out.num_rows == x.rows && out.num_columns == weight.spec.n() &&
                  (out.dtype == DType::kBF16 || out.dtype == DType::kF32),
              "{}: output is {} [{}, {}]", weight.spec.name, dtype_name(out.dtype), out.num_rows,
              out.num_columns);
  GemmArgs args;
  args.blocks = meta.blocks;
  args.blocks.data = weight.tensors[0].data<uint8_t>();
  args.x = rows.raw();
  args.x_stride = rows.stride(0);
  args.k = static_cast<int32_t>(rows.size(1));
  args.rows = static_cast<int32_t>(x.rows);
  args.bias = meta.bias.defined() ? meta.bias.data<float>() : nullptr;
  args.out = out.data;
  args.out_stride = out.stride;
  args.out_is_bf16 = out.dtype == DType::kBF16;
  return args;
}

void run_mma(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out) {
  if (x.rows == 0) return;
  const GemmArgs args = args_of(weight, x, out);
  const GemmPlan plan = plan_gemm_mma(args, ctx.cuda->num_sms);
  const ArenaScope scope(ctx.arena);
  const int64_t floats = workspace_floats(args, plan);
  float* workspace = floats == 0 ? nullptr : ctx.arena.alloc_array<float>(floats);
  launch_gemm_mma(args, plan, workspace, ctx.cuda->stream);
}

void run_wgmma(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out) {
  if (x.rows == 0) return;
  GemmArgs args = args_of(weight, x, out);
  const GemmPlan plan = plan_gemm_wgmma(args, ctx.cuda->num_sms);
  const ArenaScope scope(ctx.arena);
  const int64_t floats = wgmma_workspace_floats(plan);
  if (floats > 0) args.workspace = ctx.arena.alloc_array<float>(floats);
  args.arrivals = ctx.cuda->arrivals;
  const CUtensorMap map =
      make_tensor_map({args.x, DType::kBF16, args.rows, args.k, args.x_stride, plan.tile_tokens});
  launch_gemm_wgmma(args, plan, &map, ctx.cuda->stream);
}

bool supports_any(const LinearWeight& /*weight*/, const Caps& caps) { return caps.sm >= 80; }
bool supports_sm90(const LinearWeight& /*weight*/, const Caps& caps) { return caps.sm == 90; }

/// One pass over the weight at this many GB/s: the rows need an order only.
template <int kGbPerS>
double cost_us(const LinearWeight& weight, const Caps& /*caps*/) {
  return static_cast<double>(weight.bytes()) / (kGbPerS * 1e3);
}

}  // namespace
}  // namespace w4a16

const FormatBackend& w4a16_cuda_backend() {
  static const std::array<LinearKernel, 2> rows{{
      {.name = "w4a16_mma",
       .supports = w4a16::supports_any,
       .cost_us = w4a16::cost_us<1500>,
       .run = w4a16::run_mma,
       .run_with = cuda::run_with_end<w4a16::run_mma>},
      {.name = "w4a16_wgmma",
       .supports = w4a16::supports_sm90,
       .cost_us = w4a16::cost_us<3000>,
       .run = w4a16::run_wgmma,
       .run_with = cuda::run_with_end<w4a16::run_wgmma>},
  }};
  static const FormatBackend backend{.input_from_rows = w4a16::input_from_rows,
                                     .input_from_norm = w4a16::input_from_norm,
                                     .input_from_silu_mul = w4a16::input_from_silu_mul,
                                     .kernels = rows,
                                     .prepare = w4a16::prepare};
  return backend;
}

}  // namespace comet::formats
