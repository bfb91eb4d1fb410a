// The row operators of training of one instruction set as a table. Included by
// training_rows_<isa>.cpp only.
#pragma once

#include "comet/ops/depthwise_conv/depthwise_grad_simd.h"
#include "comet/ops/gelu/gelu_backward_simd.h"
#include "comet/ops/product/product_simd.h"

namespace comet {
namespace {

constexpr TrainingRows kTrainingRowsOfThisFile = {.gelu_backward_row = gelu_backward_row,
                                                  .depthwise_grad_row = depthwise_grad_row,
                                                  .product_tile = product_tile,
                                                  .tile_columns = kProductColumns};

}  // namespace
}  // namespace comet
