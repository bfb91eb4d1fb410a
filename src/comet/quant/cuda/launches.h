// Launch functions of quantization's kernels. All pointers are of device memory; matrices are
// row-major; k_padded is a multiple of 128. Callers: the host files of this folder and its tests.
// What the kernels do and cost: docs/kernels/quant_cuda.md.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace comet::quant::cuda {

/// rows [num_rows, k] FP32 or BF16, `stride` elements apart → out [num_rows, k] FP32.
struct FloatRowsArgs {
  const void* rows = nullptr;
  bool is_bf16 = false;
  int64_t stride = 0;
  int64_t num_rows = 0;
  int64_t k = 0;
  float* out = nullptr;
};
void launch_float_rows(const FloatRowsArgs& args, cudaStream_t stream);
/// Column c of rows [num_rows, k] divided by scales[c], in place.
void launch_divide_columns(float* rows, int64_t num_rows, int64_t k, const float* scales,
                           cudaStream_t stream);
/// out[t, c] = rows[t, order[c]].
void launch_gather_columns(const float* rows, int64_t num_rows, int64_t k, const int32_t* order,
                           float* out, cudaStream_t stream);

/// Rows of a site in the model's order → what their codes stand for, in stored order: bit for bit
/// fmpq/activation_rows.h.
struct SiteRowsArgs {
  const float* rows = nullptr;    // [num_rows, k]
  const int32_t* perm = nullptr;  // [k_padded]; nullptr: identity
  float* out = nullptr;           // [num_rows, k_padded]
  int64_t num_rows = 0;
  int k = 0;
  int k_padded = 0;
  int int4_channels = 0;
  float clip = 1.0F;
  bool rotates = false;    // S2h: Hadamard of each INT4 block
  bool per_block = false;  // S1: a scale per 128 channels, else one per segment
  bool is_coded = true;    // A16: only stored
};
void launch_site_rows(const SiteRowsArgs& args, cudaStream_t stream);

/// c[i, j] += factor · Σ_t x_i(t)·x_j(t) for tiles of j ≤ i, in FP64; what c has above the diagonal
/// is undefined afterwards.
struct GramArgs {
  double* c = nullptr;
  int64_t c_stride = 0;
  int64_t n = 0;  // even
  int64_t depth = 0;
  double factor = 1.0;
};
/// x_i(t) = rows[t · stride + i]: tokens as rows.
void launch_gram_of_columns(const GramArgs& args, const float* rows, int64_t stride,
                            cudaStream_t stream);
/// x_i(t) = panel[i · stride + t]: what a Cholesky panel takes from the columns behind it.
void launch_gram_of_rows(const GramArgs& args, const double* panel, int64_t stride,
                         cudaStream_t stream);

/// lower [k, k] = `hessian` (its lower triangle) in reversed coding order, plus `damping` on the
/// diagonal: row i is channel order[k − 1 − i].
void launch_reversed_order(const double* hessian, const int32_t* order, double damping, int64_t k,
                           double* lower, cudaStream_t stream);

/// Overwrites the lower triangle of `a` [k, k], k a multiple of kCholeskyTile, with L, a = L·Lᵀ;
/// *failed becomes 1 where a is not positive definite.
constexpr int64_t kCholeskyTile = 64;
void launch_cholesky(double* a, int64_t k, int* failed, cudaStream_t stream);

/// factor [k, k]: row i, column j < i: L[k−1−j, k−1−i] / L[k−1−i, k−1−i], else 0: the rows of
/// FeedbackFactor (weights/gptq.h).
void launch_feedback_factor(const double* lower, int64_t k, float* factor, cudaStream_t stream);

/// A WeightGrid in device memory; what the granularity does not use is nullptr.
struct DeviceGrid {
  const float* channel_scale = nullptr;       // [rows]
  const float* group_scale = nullptr;         // [groups, rows]
  const uint8_t* group_multiplier = nullptr;  // [groups, rows]
  const int8_t* group_offset = nullptr;       // [groups, rows]
  int64_t num_rows = 0;
  float low = -8.0F;  // of symmetric codes
  float high = 7.0F;
};

/// Codes 128 columns in coding order of rows [first_row, first_row + num_rows).
struct FeedbackArgs {
  const float* stored = nullptr;   // [all rows, k]
  const int32_t* order = nullptr;  // [k]
  const float* factor = nullptr;   // [k, k]
  const float* carried = nullptr;  // [num_rows, 128] from earlier blocks; nullptr: nothing
  float* delta = nullptr;   // [num_rows, k] in coding order: columns of this block are written
  int8_t* codes = nullptr;  // [all rows, k] in stored order
  DeviceGrid grid;
  int64_t first_row = 0;
  int64_t num_rows = 0;
  int64_t k = 0;
  int64_t begin = 0;  // first column of the block
};
constexpr int64_t kFeedbackColumns = 128;
void launch_feedback(const FeedbackArgs& args, cudaStream_t stream);

}  // namespace comet::quant::cuda
