// The producers of codes for many rows: persistent CTAs whose rows come by bulk copies. Callers:
// produce_w4ax, produce_int8, produce_e4m3.
#pragma once

#include "comet/formats/cuda/producer.h"

namespace comet::formats::cuda {

/// Launches it where it suits: many rows in whole chunks (a norm of up to 8,192 channels, SiLU·mul
/// of 28,672, permuted or given rows of 16,384), BF16 (a norm's x FP32), a scale a row or segment,
/// on sm_90. False, and nothing done, elsewhere. The codes, scales and residuals of the kernel of
/// one CTA a row, bit for bit. Sink: BlockSink, Int8Sink, E4m3Sink.
template <class Sink>
bool produce_by_rings(const RowSource& source, const Sink& sink, CUstream_st* stream);

}  // namespace comet::formats::cuda
