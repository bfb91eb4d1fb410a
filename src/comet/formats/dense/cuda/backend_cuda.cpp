// dense on CUDA. Prepared, a weight has two tensors: the parts' rows one below the other [n, k],
// and the bias F32 [n] (undefined without one); one that may be rounded is BF16 and has a third,
// its bias in BF16 for cuBLASLt's epilogue. Else the type is the parts' own where that is BF16 or
// F16 for all; other weights become BF16 where every value is one exactly, else F32: nothing is
// lost. Inputs are BF16 rows, cast to the weight's type. Few tokens: gemv.cu; more: cuBLASLt.
#include <algorithm>
#include <atomic>

#include "comet/device/cuda/cublaslt.h"
#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/cuda_resources.h"
#include "comet/device/cuda/upload.h"
#include "comet/formats/cuda/float_rows.h"
#include "comet/formats/dense/cuda/gemv.h"
#include "comet/formats/dense/dense.h"
#include "comet/formats/float_input.h"
#include "comet/ops/gelu/gelu.h"
#include "comet/ops/product/cuda/rows_gemm.h"

namespace comet::formats {
namespace dense {
namespace {

enum TensorSlot { kWeight, kBias, kRoundedBias, kNumTensors };

constexpr int64_t kElementsPerTask = int64_t{1} << 18;

/// body(begin, end) for ranges of a tensor's elements.
template <typename Body>
void for_elements(ThreadPool& pool, const Tensor& tensor, Body body) {
  const int64_t count = tensor.num_elements();
  pool.parallel_for((count + kElementsPerTask - 1) / kElementsPerTask, [&](int64_t i, int) {
    body(i * kElementsPerTask, std::min(count, (i + 1) * kElementsPerTask));
  });
}

bool is_exact_bf16(ThreadPool& pool, const Tensor& tensor) {
  std::atomic<bool> exact{true};
  for_elements(pool, tensor, [&](int64_t begin, int64_t end) {
    bool all = true;
    for (int64_t i = begin; i < end; ++i) {
      const float value = float_element(tensor, i);
      all &= to_float(to_bfloat16(value)) == value;
    }
    if (!all) exact = false;
  });
  return exact;
}

/// The type of the prepared weight.
DType common_type(ThreadPool& pool, const LinearWeight& weight) {
  const size_t num_parts = weight.spec.parts.size();
  const auto parts = std::span(weight.tensors).first(num_parts);
  const DType first = parts.front().dtype();
  const bool alike =
      std::ranges::all_of(parts, [&](const Tensor& part) { return part.dtype() == first; });
  if (alike && first != DType::kF32) return first;
  const auto is_exact = [&](const Tensor& part) { return is_exact_bf16(pool, part); };
  return std::ranges::all_of(parts, is_exact) ? DType::kBF16 : DType::kF32;
}

/// `part` as `dtype`, in which its values are exact or may be rounded; one of another type is on
/// the host.
Tensor converted(ThreadPool& pool, const Tensor& part, DType dtype) {
  if (part.dtype() == dtype) return part;
  Tensor out = allocate_tensor(host_allocator(), dtype, part.shape());
  for_elements(pool, part, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float value = float_element(part, i);
      if (dtype == DType::kBF16) {
        out.data<BFloat16>()[i] = to_bfloat16(value);
      } else {
        out.data<float>()[i] = value;
      }
    }
  });
  return out;
}

/// The parts one behind the other in device memory.
Tensor gather_parts(Context& ctx, std::span<const Tensor> parts, DType dtype, const Shape& shape) {
  Tensor out = allocate_tensor(ctx.memory, dtype, shape);
  size_t offset = 0;
  for (const Tensor& part : parts) {
    const Tensor source = converted(ctx.pool, part, dtype);
    const auto part_bytes = static_cast<size_t>(source.num_bytes());
    upload(ctx.pool, *ctx.cuda, out.raw() + offset, source.raw(), part_bytes);
    offset += part_bytes;
  }
  return out;
}

Status prepare(Context& ctx, LinearWeight& weight) {
  const auto lt = cublaslt_of(*ctx.cuda);
  if (!lt) return lt.error();
  const size_t num_parts = weight.spec.parts.size();
  const auto tensors = std::span<const Tensor>(weight.tensors);
  const int64_t n = weight.spec.n();
  std::vector<Tensor> prepared(kNumTensors);
  const DType dtype = weight.spec.may_round ? DType::kBF16 : common_type(ctx.pool, weight);
  prepared[kWeight] = gather_parts(ctx, tensors.first(num_parts), dtype, Shape{n, weight.spec.k});
  if (weight.spec.has_bias) {
    prepared[kBias] = gather_parts(ctx, tensors.subspan(num_parts), DType::kF32, Shape{n});
    if (weight.spec.may_round) {
      prepared[kRoundedBias] =
          gather_parts(ctx, tensors.subspan(num_parts), DType::kBF16, Shape{n});
    }
  }
  COMET_CUDA(cudaStreamSynchronize(ctx.cuda->stream));  // parts on the device go now
  weight.tensors = std::move(prepared);
  return {};
}

/// BF16 rows as rows of the weight's type.
Tensor rows_of_type(Context& ctx, const Tensor& x, DType dtype) {
  if (dtype == DType::kBF16) return x;
  COMET_CHECK(x.contiguous(), "rows {} apart", x.stride(0));
  Tensor out = ctx.arena.alloc(dtype, x.shape());
  launch_cast_bf16(x.raw(), out.raw(), dtype == DType::kF16, x.num_elements(), ctx.cuda->stream);
  return out;
}

bool is_aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

const float* bias_of(const LinearWeight& weight) {
  return weight.spec.has_bias ? weight.tensors[kBias].data<float>() : nullptr;
}

/// More tokens are cuBLASLt's (docs/kernels/dense_cuda.md).
constexpr int64_t kMaxOwnRows = 8;
static_assert(kMaxOwnRows <= kMaxGemvRows);

bool suits_gemv(const Tensor& w, const Tensor& x) {
  return w.dtype() != DType::kF32 && x.size(0) <= kMaxOwnRows && w.size(1) % 8 == 0 &&
         x.stride(0) % 8 == 0 && is_aligned(x.raw());
}

void run_gemv(Context& ctx, const LinearWeight& weight, const Tensor& x, const Rows& out) {
  const Tensor& w = weight.tensors[kWeight];
  GemvArgs args;
  args.x = x.raw();
  args.w = w.raw();
  args.bias = bias_of(weight);
  args.out = out.data;
  args.x_stride = x.stride(0);
  args.out_stride = out.stride;
  args.rows = static_cast<int32_t>(x.size(0));
  args.n = static_cast<int32_t>(w.size(0));
  args.k = static_cast<int32_t>(w.size(1));
  args.is_f16 = w.dtype() == DType::kF16;
  args.is_bf16_out = out.dtype == DType::kBF16;
  args.may_start_early = ctx.cuda->sm == 90;
  launch_gemv(args, ctx.cuda->stream);
}

/// cuBLASLt writes `out` itself where it has that type and nothing is to be added, else FP32 sums.
void run_cublaslt(Context& ctx, const LinearWeight& weight, const Tensor& x, const Rows& out) {
  const Tensor& w = weight.tensors[kWeight];
  CublasLt& lt = *cublaslt_of(*ctx.cuda).value();
  MatmulDesc desc;
  desc.in = w.dtype();
  desc.rows = x.size(0);
  desc.n = w.size(0);
  desc.k = w.size(1);
  desc.x_stride = x.stride(0);
  const bool has_type = out.dtype == DType::kF32 || w.dtype() == DType::kBF16;
  if (!weight.spec.has_bias && has_type && is_aligned(out.data)) {
    desc.out = out.dtype;
    desc.out_stride = out.stride;
    run_matmul(lt, desc, {.x = x.raw(), .w = w.raw(), .out = out.data}, ctx.cuda->stream);
    return;
  }
  const Tensor sums = ctx.arena.alloc(DType::kF32, {desc.rows, desc.n});
  desc.out = DType::kF32;
  run_matmul(lt, desc, {.x = x.raw(), .w = w.raw(), .out = sums.raw()}, ctx.cuda->stream);
  BiasArgs add;
  add.sums = sums.data<float>();
  add.bias = bias_of(weight);
  add.out = out.data;
  add.out_stride = out.stride;
  add.rows = static_cast<int32_t>(desc.rows);
  add.n = static_cast<int32_t>(desc.n);
  add.is_bf16_out = out.dtype == DType::kBF16;
  launch_add_bias(add, ctx.cuda->stream);
}

void run(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out) {
  COMET_CHECK(out.num_rows == x.rows && out.num_columns == weight.spec.n() &&
                  (out.dtype == DType::kF32 || out.dtype == DType::kBF16),
              "{}: output [{}, {}] {}", weight.spec.name, out.num_rows, out.num_columns,
              dtype_name(out.dtype));
  if (x.rows == 0) return;
  const ArenaScope scope(ctx.arena);
  const Tensor rows = rows_of_type(ctx, x.parts[0], weight.tensors[kWeight].dtype());
  if (suits_gemv(weight.tensors[kWeight], rows)) {
    run_gemv(ctx, weight, rows, out);
  } else {
    run_cublaslt(ctx, weight, rows, out);
  }
}

/// Fewer rows than this do not fill the card with the tiles of rows_gemm.
constexpr int64_t kMinGemmRows = 4096;

/// The product with GELU in one pass, where rows_gemm has it.
bool run_with_gelu(Context& ctx, const LinearWeight& weight, const Tensor& x, const Rows& out) {
  const Tensor& w = weight.tensors[kWeight];
  ops_cuda::RowsGemmArgs args;
  args.x = x.raw();
  args.w = w.raw();
  args.bias = bias_of(weight);
  args.out = out.data;
  args.x_stride = x.stride(0);
  args.out_stride = out.stride;
  args.rows = out.num_rows;
  args.n = static_cast<int32_t>(w.size(0));
  args.k = static_cast<int32_t>(w.size(1));
  if (args.rows < kMinGemmRows || args.bias == nullptr ||
      !ops_cuda::rows_gemm_supports(args, ctx.cuda->sm)) {
    return false;
  }
  ops_cuda::launch_rows_gemm(args, ctx.cuda->num_sms, ctx.cuda->stream);
  return true;
}

/// The product, its bias and its end in one pass. GELU, which cuBLASLt only approximates, is a
/// second pass over `out` where rows_gemm does not take the product.
void run_with(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out,
              LinearEnd end) {
  COMET_CHECK(weight.spec.may_round && out.num_rows == x.rows &&
                  out.num_columns == weight.spec.n() && out.dtype == DType::kBF16 &&
                  is_aligned(out.data),
              "{}: output [{}, {}] {}", weight.spec.name, out.num_rows, out.num_columns,
              dtype_name(out.dtype));
  if (x.rows == 0) return;
  if (end == LinearEnd::kGelu && run_with_gelu(ctx, weight, x.parts[0], out)) return;
  const Tensor& w = weight.tensors[kWeight];
  MatmulDesc desc;
  desc.rows = x.rows;
  desc.n = w.size(0);
  desc.k = w.size(1);
  desc.x_stride = x.parts[0].stride(0);
  desc.out_stride = out.stride;
  desc.end = weight.spec.has_bias ? MatmulEnd::kBias : MatmulEnd::kNone;
  desc.add_to_out = end == LinearEnd::kAdd;
  MatmulArgs args{.x = x.parts[0].raw(), .w = w.raw(), .out = out.data};
  if (weight.spec.has_bias) args.bias = weight.tensors[kRoundedBias].raw();
  run_matmul(*cublaslt_of(*ctx.cuda).value(), desc, args, ctx.cuda->stream);
  if (end == LinearEnd::kGelu) gelu(ctx, out, out);
}

bool supports(const LinearWeight& /*weight*/, const Caps& caps) {
  return caps.kind == DeviceKind::kCuda && caps.sm >= 80;
}

/// One pass over the weight at 3 TB/s: the only row, so that this says no more.
double cost_us(const LinearWeight& weight, const Caps& /*caps*/) {
  return static_cast<double>(weight.bytes()) / 3e6;
}

constexpr LinearKernel kKernels[] = {{.name = "dense_cublaslt",
                                      .supports = supports,
                                      .cost_us = cost_us,
                                      .run = run,
                                      .run_with = run_with}};

}  // namespace
}  // namespace dense

const FormatBackend& dense_cuda_backend() {
  static const FormatBackend backend{.input_from_rows = cuda_float_input_from_rows,
                                     .input_from_norm = cuda_float_input_from_norm,
                                     .input_from_silu_mul = cuda_float_input_from_silu_mul,
                                     .kernels = dense::kKernels,
                                     .prepare = dense::prepare};
  return backend;
}

}  // namespace comet::formats
