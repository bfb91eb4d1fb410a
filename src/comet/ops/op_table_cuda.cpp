// The operators of a GPU: from views to launches on ctx.cuda->stream.
#include <cstring>

#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/cuda_resources.h"
#include "comet/device/cuda/upload.h"
#include "comet/device/host_memory.h"
#include "comet/ops/context.h"
#include "comet/ops/cuda/image_slots.h"
#include "comet/ops/cuda/launches.h"
#include "comet/ops/op_table.h"

namespace comet {
namespace {

using ops_cuda::FloatHeads;
using ops_cuda::FloatRows;
using ops_cuda::FloatType;

static_assert(static_cast<int>(DType::kF32) == static_cast<int>(FloatType::kF32) &&
              static_cast<int>(DType::kF16) == static_cast<int>(FloatType::kF16) &&
              static_cast<int>(DType::kBF16) == static_cast<int>(FloatType::kBF16));

FloatType float_type(DType dtype) {
  COMET_CHECK(dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16, "{} as floats",
              dtype_name(dtype));
  return static_cast<FloatType>(dtype);
}

/// A kernel that may write is given what it may write by its other arguments only.
FloatRows rows_of(const ConstRows& x) {
  return {const_cast<void*>(x.data), x.stride, float_type(x.dtype)};
}

FloatRows optional_rows_of(const ConstRows& x) { return x.empty() ? FloatRows{} : rows_of(x); }

void embedding_cuda(Context& ctx, View<float, 2> out, const Tensor& table,
                    std::span<const int32_t> tokens) {
  ops_cuda::launch_embedding(
      {rows_of(out), rows_of(table), tokens.data(), out.size(0), out.size(1), table.size(0)},
      ctx.cuda->stream);
}

void gather_rows_cuda(Context& ctx, View<float, 2> out, View<const float, 2> x, ConstRows delta,
                      std::span<const int32_t> row_idxs) {
  ops_cuda::launch_gather_rows({rows_of(out), rows_of(x), optional_rows_of(delta), row_idxs.data(),
                                out.size(0), out.size(1), x.size(0)},
                               ctx.cuda->stream);
}

void rms_norm_cuda(Context& ctx, View<float, 2> out, View<const float, 2> x,
                   View<const float, 1> weight, float eps) {
  COMET_CHECK(x.size(1) <= ops_cuda::kMaxNormSize, "a norm of {} values", x.size(1));
  ops_cuda::launch_rms_norm(
      {rows_of(out), rows_of(x), FloatRows{}, weight.data, eps, x.size(0), x.size(1)},
      ctx.cuda->stream);
}

void rope_cuda(Context& ctx, View<float, 3> x, std::span<const int32_t> positions,
               std::span<const float> inv_freq) {
  const FloatHeads heads{x.data,    FloatType::kF32, x.size(0),   x.size(1),
                         x.size(2), x.strides[0],    x.strides[1]};
  ops_cuda::launch_rope(heads, positions.data(), inv_freq.data(), ctx.cuda->stream);
}

void add_cuda(Context& ctx, View<float, 2> x, ConstRows y) {
  ops_cuda::launch_add({rows_of(x), rows_of(y), x.size(0), x.size(1)}, ctx.cuda->stream);
}

void silu_mul_cuda(Context& ctx, View<float, 2> out, View<const float, 2> gate,
                   View<const float, 2> up) {
  ops_cuda::launch_silu_mul({rows_of(out), rows_of(gate), rows_of(up), out.size(0), out.size(1)},
                            ctx.cuda->stream);
}

OpTable cuda_table() {
  OpTable table{};
  table.product_dtype = DType::kBF16;
  table.embedding = embedding_cuda;
  table.gather_rows = gather_rows_cuda;
  table.rms_norm = rms_norm_cuda;
  table.rope = rope_cuda;
  table.add = add_cuda;
  table.silu_mul = silu_mul_cuda;
  ops_cuda::fill_image_slots(table);
  ops_cuda::fill_training_slots(table);
  return table;
}

}  // namespace

const OpTable& cuda_op_table() {
  static const OpTable table = cuda_table();
  return table;
}

Tensor copy_to_device(Context& ctx, const Tensor& host) {
  if (ctx.cuda == nullptr) return host;
  COMET_CHECK(host.contiguous(), "a strided tensor {} to the device", host.shape().to_string());
  if (!is_host_memory(host.raw())) return host;
  Tensor device = allocate_tensor(ctx.memory, host.dtype(), host.shape());
  upload(ctx.pool, *ctx.cuda, device.raw(), host.raw(), static_cast<size_t>(host.num_bytes()));
  COMET_CUDA(cudaStreamSynchronize(ctx.cuda->stream));
  return device;
}

void write_to_gpu(Context& ctx, const Tensor& device, const Tensor& host) {
  constexpr size_t kMostStagedBytes = size_t{4} << 20;  // more goes by upload()'s larger buffers
  const auto bytes = static_cast<size_t>(host.num_bytes());
  if (bytes >= kMostStagedBytes) {
    upload(ctx.pool, *ctx.cuda, device.raw(), host.raw(), bytes);
    return;
  }
  std::memcpy(ctx.cuda->staging.begin(bytes), host.raw(), bytes);
  ctx.cuda->staging.send(device.raw(), bytes, ctx.cuda->stream);
}

Tensor copy_to_host(Context& ctx, const Tensor& device) {
  if (ctx.cuda == nullptr) return device;
  COMET_CHECK(device.contiguous(), "a strided tensor {} to the host", device.shape().to_string());
  const auto bytes = static_cast<size_t>(device.num_bytes());
  Tensor host = allocate_tensor(host_allocator(), device.dtype(), device.shape());
  COMET_CUDA(
      cudaMemcpyAsync(host.raw(), device.raw(), bytes, cudaMemcpyDeviceToHost, ctx.cuda->stream));
  COMET_CUDA(cudaStreamSynchronize(ctx.cuda->stream));
  return host;
}

}  // namespace comet
