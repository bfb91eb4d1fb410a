// The row operators of one instruction set as a table. Included by row_ops_<isa>.cpp only.
#pragma once

#include "comet/ops/add/add_simd.h"
#include "comet/ops/depthwise_conv/depthwise_conv_simd.h"
#include "comet/ops/embedding/embedding_simd.h"
#include "comet/ops/gelu/gelu_simd.h"
#include "comet/ops/hadamard/hadamard_simd.h"
#include "comet/ops/layer_norm/layer_norm_simd.h"
#include "comet/ops/rms_norm/rms_norm_simd.h"
#include "comet/ops/rope/rope_simd.h"
#include "comet/ops/row_ops.h"
#include "comet/ops/silu_mul/silu_mul_simd.h"

namespace comet {
namespace {

constexpr RowOps kRowOpsOfThisFile = {.rms_norm_row = rms_norm_row,
                                      .silu_mul_row = silu_mul_row,
                                      .add_row = add_row,
                                      .rope_row = rope_row,
                                      .f32_from_bf16 = f32_from_bf16,
                                      .f32_from_f16 = f32_from_f16,
                                      .hadamard = hadamard,
                                      .layer_norm_row = layer_norm_row,
                                      .gelu_row = gelu_row,
                                      .depthwise_row = depthwise_row};

}  // namespace
}  // namespace comet
