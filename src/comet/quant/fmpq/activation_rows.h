// What a site's rows become on their way into the integer kernels (docs/formats.md §1, §2.4), as
// floats: gathered into stored order, rotated, coded, and multiplied back by their scale. The same
// arithmetic as the w4ax producers (a test compares them). Callers: activation_clip, gptq's
// Hessians, the report.
#pragma once

#include "comet/device/thread_pool.h"
#include "comet/formats/quantized_weight.h"
#include "comet/quant/matrix.h"

namespace comet::quant {

/// rows [n, k] in the model's order → [n, k_padded] in stored order, INT4 blocks rotated (S2h).
Matrix stored_rows(ThreadPool& pool, const formats::SiteLayout& layout, View<const float, 2> rows);

/// codes · scale of rows in stored order, by layout.scale, int8_blocks and clip; A16: as they are.
Matrix quantized_rows(ThreadPool& pool, const formats::SiteLayout& layout, const Matrix& stored);

/// One span under one scale, in place: a = clip·absmax; a < 2⁻¹⁰⁰ → 0, else codes in
/// [−max_code, max_code] times a/max_code. max_code is 7 (A4) or 127 (A8, clip 1).
void quantize_span(const float* x, float* out, int64_t count, float clip, float max_code);

}  // namespace comet::quant
