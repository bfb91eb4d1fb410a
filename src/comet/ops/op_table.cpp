#include "comet/ops/op_table.h"

#include <array>

#include "comet/ops/add/add.h"
#include "comet/ops/average_pool/average_pool.h"
#include "comet/ops/depthwise_conv/depthwise_conv.h"
#include "comet/ops/embedding/embedding.h"
#include "comet/ops/gather_patches/gather_patches.h"
#include "comet/ops/gather_rows/gather_rows.h"
#include "comet/ops/gelu/gelu.h"
#include "comet/ops/inception_mixer/inception_mixer.h"
#include "comet/ops/layer_norm/layer_norm.h"
#include "comet/ops/rms_norm/rms_norm.h"
#include "comet/ops/rope/rope.h"
#include "comet/ops/silu_mul/silu_mul.h"
#include "comet/ops/training_ops_cpu.h"

namespace comet {
namespace {

OpTable cpu_table(const RowOps& rows) {
  OpTable table{};
  static_cast<RowOps&>(table) = rows;
  static_cast<TrainingOps&>(table) = cpu_training_ops();
  table.embedding = embedding_cpu;
  table.gather_rows = gather_rows_cpu;
  table.rms_norm = rms_norm_cpu;
  table.rope = rope_cpu;
  table.add = add_cpu;
  table.silu_mul = silu_mul_cpu;
  table.layer_norm = layer_norm_cpu;
  table.gelu = gelu_cpu;
  table.depthwise_conv = depthwise_conv_cpu;
  table.inception_mixer = inception_mixer_cpu;
  table.gather_patches = gather_patches_cpu;
  table.average_pool = average_pool_cpu;
  return table;
}

}  // namespace

const OpTable& cpu_op_table(CpuIsa isa) {
  // kAvx512Vnni adds only integer products: plain operators have no use for them.
  static const std::array<OpTable, 4> tables{cpu_table(kRowOpsPortable), cpu_table(kRowOpsAvx2),
                                             cpu_table(kRowOpsAvx512), cpu_table(kRowOpsAvx512)};
  return tables.at(static_cast<size_t>(isa));
}

}  // namespace comet
