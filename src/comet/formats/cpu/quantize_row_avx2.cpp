#include "comet/formats/cpu/quantize_row_body.h"

namespace comet::formats::cpu {

void quantize_row_avx2(const RowPlan& plan, const float* x, float* scratch, const RowOutput& out) {
  quantize_row_body(plan, x, scratch, out);
}

}  // namespace comet::formats::cpu
