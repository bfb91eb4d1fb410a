// The producer of w4ax codes for few long rows: a cluster of CTAs a row. Caller: produce_w4ax.
#pragma once

#include "comet/formats/cuda/producer.h"

namespace comet::formats::cuda {

/// Launches it where it suits: SiLU·mul of BF16 rows, S2 or S2h, few rows, on sm_90. False, and
/// nothing done, elsewhere. The codes and scales of the kernel of one CTA a row, bit for bit.
bool produce_w4ax_by_clusters(const RowSource& source, const BlockSink& sink, CUstream_st* stream);

}  // namespace comet::formats::cuda
