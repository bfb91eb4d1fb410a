// The KV kernels of one instruction set. Included by attend_<isa>.cpp only.
#pragma once

#include "comet/kv/attend/attend_lanes_simd.h"
#include "comet/kv/attend/attend_rows_simd.h"
#include "comet/kv/kv16/kv16_simd.h"
#include "comet/kv/kv32/kv32_simd.h"
#include "comet/kv/kv4/kv4_simd.h"
#include "comet/kv/kv8/kv8_simd.h"
#include "comet/kv/kv8_fp8/kv8_fp8_simd.h"

namespace comet::kv {
namespace {

template <typename Rows>
void attend(const AttendTask& task) {
  const TaskShape shape = task_shape(task);
  // With lanes over query rows, a half-empty register costs what two products of rows cost.
  const bool many = 2 * shape.rows > simd::kLanes;
  if (task.way == AttendWay::kByNumRows ? many : task.way == AttendWay::kLanesOverRows) {
    attend_lanes<Rows>(task, shape);
  } else {
    attend_rows<Rows>(task, shape);
  }
}

template <typename Rows>
constexpr KvKernels kernels_of() {
  return {.encode_row = Rows::encode_row, .decode_rows = Rows::decode_rows, .attend = attend<Rows>};
}

constexpr KvKernelSet kKvKernelsOfThisFile = {.kv16 = kernels_of<Kv16Rows>(),
                                              .kv8 = kernels_of<Kv8Rows>(),
                                              .kv4 = kernels_of<Kv4Rows>(),
                                              .kv8_fp8 = kernels_of<Kv8Fp8Rows>(),
                                              .kv32 = kernels_of<Kv32Rows>()};

}  // namespace
}  // namespace comet::kv
