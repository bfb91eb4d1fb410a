// The verdict and the cost of a kernel row that needs one instruction set of the CPU: what the
// tables of every format's CPU kernels say of themselves. Callers: formats/*/cpu/gemm_rows.cpp.
#pragma once

#include "comet/formats/format.h"

namespace comet::formats {

template <CpuIsa Isa>
bool supports(const LinearWeight& /*weight*/, const Caps& caps) {
  return caps.cpu_isa >= Isa;
}

// Only the order counts: the newer instruction set first.
template <CpuIsa Isa>
double cost_us(const LinearWeight& weight, const Caps& /*caps*/) {
  return static_cast<double>(weight.bytes()) * (4 - static_cast<int>(Isa));
}

}  // namespace comet::formats
