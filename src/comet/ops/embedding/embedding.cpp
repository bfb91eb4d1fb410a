#include "comet/ops/embedding/embedding.h"

#include <cstring>

#include "comet/ops/op_table.h"
#include "comet/ops/parallel_rows.h"

namespace comet {

void embedding(Context& ctx, View<float, 2> out, const Tensor& table,
               std::span<const int32_t> tokens) {
  COMET_CHECK(table.shape().rank() == 2 && table.contiguous(), "table {}",
              table.shape().to_string());
  COMET_CHECK(out.size(0) == static_cast<int64_t>(tokens.size()) && out.size(1) == table.size(1),
              "out [{}, {}], {} tokens, table {}", out.size(0), out.size(1), tokens.size(),
              table.shape().to_string());
  COMET_CHECK(out.strides[1] == 1);
  COMET_CHECK(
      table.dtype() == DType::kBF16 || table.dtype() == DType::kF16 || table.dtype() == DType::kF32,
      "table of {}", dtype_name(table.dtype()));
  ctx.ops.embedding(ctx, out, table, tokens);
}

void embedding_cpu(Context& ctx, View<float, 2> out, const Tensor& table,
                   std::span<const int32_t> tokens) {
  const int64_t n = out.size(1);
  const int64_t row_bytes = n * dtype_bytes(table.dtype());
  for (const int32_t token : tokens) {
    COMET_CHECK(token >= 0 && token < table.size(0), "token {} of {}", token, table.size(0));
  }
  parallel_rows(ctx, out.size(0), n, [&](int64_t i) {
    const std::byte* row = table.raw() + tokens[i] * row_bytes;
    if (table.dtype() == DType::kF32) {
      std::memcpy(out.row(i), row, static_cast<size_t>(row_bytes));
    } else if (table.dtype() == DType::kBF16) {
      ctx.ops.f32_from_bf16(out.row(i), reinterpret_cast<const uint16_t*>(row), n);
    } else {
      ctx.ops.f32_from_f16(out.row(i), reinterpret_cast<const uint16_t*>(row), n);
    }
  });
}

}  // namespace comet
