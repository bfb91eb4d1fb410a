// The roofs that figures are compared with, measured in the same run as the figures.
#pragma once

#include "comet/ops/context.h"

namespace comet::bench {

/// Best rate in GB/s (10⁹ bytes) at which all threads of ctx.pool together read a buffer far larger
/// than the caches.
double measure_read_gb_per_s(Context& ctx);
/// The same for copying: bytes read plus bytes written a second.
double measure_copy_gb_per_s(Context& ctx);
/// Best rate of FP32 multiply-accumulates, in 10⁹ a second, of all threads of ctx.pool together,
/// from registers to registers.
double measure_fma_gmac_per_s(Context& ctx);

}  // namespace comet::bench
