#include "comet/formats/cuda/float_rows.h"

#include "comet/device/cuda/cuda_resources.h"

namespace comet::formats {
namespace cuda {
namespace {

FloatRows float_rows(const LinearWeight& weight, const ConstRows& x) {
  COMET_CHECK(x.dtype == DType::kF32 || x.dtype == DType::kBF16, "{}: rows of {}", weight.spec.name,
              dtype_name(x.dtype));
  return {.data = x.data,
          .stride = x.stride,
          .type = x.dtype == DType::kF32 ? FloatType::kF32 : FloatType::kBf16};
}

void check_channels(const LinearWeight& weight, int64_t channels) {
  COMET_CHECK(channels == weight.spec.k, "{}: input rows of {} channels, not {}", weight.spec.name,
              channels, weight.spec.k);
}

}  // namespace

RowSource rows_source(const LinearWeight& weight, ConstRows x) {
  check_channels(weight, x.num_columns);
  RowSource source;
  source.kind = SourceKind::kRows;
  source.rows = x.num_rows;
  source.k = x.num_columns;
  source.x = float_rows(weight, x);
  return source;
}

RowSource norm_source(const LinearWeight& weight, const NormInput& input) {
  check_channels(weight, input.x.size(1));
  COMET_CHECK(input.weight.size(0) == weight.spec.k && input.weight.strides[0] == 1,
              "{}: norm of {} channels", weight.spec.name, input.weight.size(0));
  COMET_CHECK(
      input.delta.empty() ||
          (input.delta.num_rows == input.x.size(0) && input.delta.num_columns == weight.spec.k),
      "{}: delta [{}, {}]", weight.spec.name, input.delta.num_rows, input.delta.num_columns);
  RowSource source = rows_source(weight, input.x);
  source.kind = SourceKind::kNorm;
  if (!input.delta.empty()) source.other = float_rows(weight, input.delta);
  source.weight = input.weight.data;
  source.eps = input.eps;
  return source;
}

RowSource silu_mul_source(const LinearWeight& weight, const SiluMulInput& input) {
  COMET_CHECK(
      input.up.num_rows == input.gate.num_rows && input.up.num_columns == input.gate.num_columns,
      "{}: gate [{}, {}], up [{}, {}]", weight.spec.name, input.gate.num_rows,
      input.gate.num_columns, input.up.num_rows, input.up.num_columns);
  RowSource source = rows_source(weight, input.gate);
  source.kind = SourceKind::kSiluMul;
  source.other = float_rows(weight, input.up);
  return source;
}

namespace {

Activation produce(Context& ctx, const RowSource& source) {
  const Tensor rows = ctx.arena.alloc(DType::kBF16, {source.rows, source.k});
  if (source.rows > 0) produce_bf16(source, {rows.raw(), source.k}, ctx.cuda->stream);
  return {source.rows, {rows}};
}

/// A tensor over rows that someone else keeps alive while the step lasts.
Tensor borrowed(const ConstRows& x) {
  const Shape shape{x.num_rows, x.num_columns};
  const auto bytes = static_cast<size_t>(shape.num_elements() * dtype_bytes(x.dtype));
  auto* data = static_cast<std::byte*>(const_cast<void*>(x.data));  // read only, as Activation is
  return {std::make_shared<Storage>(data, bytes, std::shared_ptr<const void>()), 0, x.dtype, shape};
}

}  // namespace
}  // namespace cuda

Activation cuda_float_input_from_rows(Context& ctx, const LinearWeight& weight, ConstRows x) {
  const cuda::RowSource source = cuda::rows_source(weight, x);
  const bool is_ready = x.dtype == DType::kBF16 && x.stride == x.num_columns &&
                        reinterpret_cast<uintptr_t>(x.data) % 16 == 0;
  if (is_ready) return {x.num_rows, {cuda::borrowed(x)}};
  return cuda::produce(ctx, source);
}

Activation cuda_float_input_from_norm(Context& ctx, const LinearWeight& weight,
                                      const NormInput& input) {
  return cuda::produce(ctx, cuda::norm_source(weight, input));
}

Activation cuda_float_input_from_silu_mul(Context& ctx, const LinearWeight& weight,
                                          const SiluMulInput& input) {
  return cuda::produce(ctx, cuda::silu_mul_source(weight, input));
}

}  // namespace comet::formats
