#include "comet/ops/op_table.h"

#include <array>

#include "comet/ops/add/add.h"
#include "comet/ops/embedding/embedding.h"
#include "comet/ops/gather_rows/gather_rows.h"
#include "comet/ops/rms_norm/rms_norm.h"
#include "comet/ops/rope/rope.h"
#include "comet/ops/silu_mul/silu_mul.h"

namespace comet {
namespace {

OpTable cpu_table(const RowOps& rows) {
  OpTable table{};
  static_cast<RowOps&>(table) = rows;
  table.embedding = embedding_cpu;
  table.gather_rows = gather_rows_cpu;
  table.rms_norm = rms_norm_cpu;
  table.rope = rope_cpu;
  table.add = add_cpu;
  table.silu_mul = silu_mul_cpu;
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
