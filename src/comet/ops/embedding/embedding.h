// Rows of the embedding table by token.
#pragma once

#include <cstdint>
#include <span>

#include "comet/ops/context.h"
#include "comet/tensor/view.h"

namespace comet {

/// out [tokens, n], table [vocabulary, n] in BF16, F16 or F32; every token in [0, vocabulary).
void embedding(Context& ctx, View<float, 2> out, const Tensor& table,
               std::span<const int32_t> tokens);
/// The slot of the CPU tables.
void embedding_cpu(Context& ctx, View<float, 2> out, const Tensor& table,
                   std::span<const int32_t> tokens);

}  // namespace comet
