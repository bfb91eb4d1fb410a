// Which quantize_row an instruction set runs. Callers: the producers of integer formats.
#pragma once

#include "comet/device/device.h"
#include "comet/formats/cpu/quantize_row.h"

namespace comet::formats::cpu {

inline QuantizeRow quantize_row_of(CpuIsa isa) {
  if (isa == CpuIsa::kPortable) return quantize_row_portable;
  return isa == CpuIsa::kAvx2 ? quantize_row_avx2 : quantize_row_avx512;
}

}  // namespace comet::formats::cpu
