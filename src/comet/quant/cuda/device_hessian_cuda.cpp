#include "comet/quant/cuda/device_hessian.h"

#include <algorithm>
#include <numeric>

#include "comet/base/log.h"
#include "comet/device/cuda/cublaslt.h"
#include "comet/quant/cuda/device_rows.h"
#include "comet/quant/cuda/launches.h"

namespace comet::quant::cuda {
namespace {

constexpr int64_t kChunkTokens = 2048;
constexpr int kMaxDampings = 4;
constexpr int64_t kRowsPerStep = 16384;  // of the weight; bounds the memory for their errors

SiteRowsArgs site_rows_args(const formats::SiteLayout& layout) {
  SiteRowsArgs args;
  args.k = static_cast<int>(layout.k);
  args.k_padded = static_cast<int>(layout.k_padded);
  args.int4_channels = static_cast<int>(layout.int4_channels());
  args.clip = layout.clip;
  args.rotates = layout.scale == formats::ActScale::kS2h;
  args.per_block = layout.scale == formats::ActScale::kS1;
  args.is_coded = layout.scale != formats::ActScale::kA16;
  return args;
}

/// A WeightGrid's arrays in device memory.
struct UploadedGrid {
  DeviceValues<float> channel_scale;
  DeviceValues<float> group_scale;
  DeviceValues<uint8_t> group_multiplier;
  DeviceValues<int8_t> group_offset;
  DeviceGrid view;
};

template <typename T>
void upload(Context& ctx, const std::vector<T>& values, DeviceValues<T>& to, const T*& view) {
  if (values.empty()) return;
  to = DeviceValues<T>(ctx, values);
  view = to.get();
}

UploadedGrid upload_grid(Context& ctx, const WeightGrid& grid) {
  UploadedGrid uploaded;
  DeviceGrid& view = uploaded.view;
  upload(ctx, grid.channel_scale, uploaded.channel_scale, view.channel_scale);
  upload(ctx, grid.group_scale, uploaded.group_scale, view.group_scale);
  upload(ctx, grid.group_multiplier, uploaded.group_multiplier, view.group_multiplier);
  upload(ctx, grid.group_offset, uploaded.group_offset, view.group_offset);
  view.num_rows = grid.num_rows;
  if (grid.codes != WeightCodes::kS4) {
    view.low = -127.0F;
    view.high = 127.0F;
  }
  return uploaded;
}

/// Channels by descending diagonal; equal ones by ascending index.
std::vector<int32_t> descending(const std::vector<double>& diagonal) {
  std::vector<int32_t> order(diagonal.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return diagonal[a] > diagonal[b]; });
  return order;
}

/// carried [rows, 128] = delta[:, :begin] · factor[begin : begin + 128, :begin]ᵀ.
void carry(CublasLt& lt, const FeedbackArgs& block, float* carried, cudaStream_t stream) {
  MatmulDesc desc;
  desc.in = DType::kF32;
  desc.out = DType::kF32;
  desc.rows = block.num_rows;
  desc.n = kFeedbackColumns;
  desc.k = block.begin;
  desc.x_stride = block.k;
  desc.w_stride = block.k;
  run_matmul(lt, desc,
             {.x = block.delta, .w = block.factor + block.begin * block.k, .out = carried}, stream);
}

}  // namespace

DeviceHessian::DeviceHessian(Context& device, const formats::SiteLayout& layout)
    : ctx_(device), layout_(layout), sum_(device, layout.k_padded * layout.k_padded) {
  sum_.set_zero();
  if (!layout.perm.empty()) perm_ = DeviceValues<int32_t>(device, layout.perm);
}

void DeviceHessian::add(ConstRows rows) {
  COMET_CHECK(rows.num_columns == layout_.k, "{}: rows of {}, {} channels", layout_.name,
              rows.num_columns, layout_.k);
  const bool as_they_are = rows.dtype == DType::kF32 && rows.stride == layout_.k;
  if (stored_.get() == nullptr) {
    stored_ = DeviceValues<float>(ctx_, kChunkTokens * layout_.k_padded);
  }
  if (!as_they_are && rows_.get() == nullptr) {
    rows_ = DeviceValues<float>(ctx_, kChunkTokens * layout_.k);
  }
  SiteRowsArgs args = site_rows_args(layout_);
  args.perm = perm_.get();
  args.out = stored_.get();
  for (int64_t begin = 0; begin < rows.num_rows; begin += kChunkTokens) {
    args.num_rows = std::min(kChunkTokens, rows.num_rows - begin);
    const ConstRows chunk = rows_from(rows, begin, args.num_rows);
    args.rows = as_they_are ? static_cast<const float*>(chunk.data) : rows_.get();
    if (!as_they_are) to_float(chunk, rows_.get(), ctx_.cuda->stream);
    launch_site_rows(args, ctx_.cuda->stream);
    launch_gram_of_columns({sum_.get(), layout_.k_padded, layout_.k_padded, args.num_rows, 1.0},
                           stored_.get(), layout_.k_padded, ctx_.cuda->stream);
  }
}

Result<DeviceFactor> DeviceHessian::factor(double damp, const std::string& name) {
  const int64_t k = layout_.k_padded;
  cudaStream_t stream = ctx_.cuda->stream;
  std::vector<double> diagonal(k);
  COMET_CUDA(cudaMemcpy2DAsync(diagonal.data(), sizeof(double), sum_.get(),
                               static_cast<size_t>(k + 1) * sizeof(double), sizeof(double),
                               static_cast<size_t>(k), cudaMemcpyDeviceToHost, stream));
  COMET_CUDA(cudaStreamSynchronize(stream));
  DeviceFactor factor;
  factor.order = descending(diagonal);
  factor.on_device = DeviceValues<int32_t>(ctx_, factor.order);
  double mean = 0.0;
  for (const double entry : diagonal) mean += entry / static_cast<double>(k);
  if (mean == 0.0) mean = 1.0;  // a site that is always zero: any codes do
  DeviceValues<double> lower(ctx_, k * k);
  DeviceValues<int> failed(ctx_, 1);
  bool done = false;
  for (int attempt = 0; attempt < kMaxDampings && !done; ++attempt, damp *= 10.0) {
    launch_reversed_order(sum_.get(), factor.on_device.get(), damp * mean, k, lower.get(), stream);
    launch_cholesky(lower.get(), k, failed.get(), stream);
    int is_failed = 0;
    failed.copy_to(&is_failed, 1);
    done = is_failed == 0;
    if (!done && attempt + 1 < kMaxDampings) {
      log_warning("{}: the Hessian is not positive definite with damping {}; trying {}", name, damp,
                  damp * 10.0);
    }
  }
  if (!done) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: the Hessian of the calibration inputs is not positive definite even "
                      "with damping; calibrate on more text, raise --damp or use --weights clip",
                      name);
  }
  factor.rows = DeviceValues<float>(ctx_, k * k);
  launch_feedback_factor(lower.get(), k, factor.rows.get(), stream);
  lower.free();
  return factor;
}

std::vector<int8_t> DeviceHessian::code_with(const DeviceFactor& factor,
                                             const FeedbackProblem& problem) {
  const Matrix& stored = problem.stored;
  const int64_t k = stored.cols;
  COMET_CHECK(k == layout_.k_padded, "{}: {} columns, Hessian of {}", problem.name, k,
              layout_.k_padded);
  const int64_t step = std::min(kRowsPerStep, stored.rows);
  DeviceValues<float> weight(ctx_, stored.values);
  DeviceValues<float> delta(ctx_, step * k);
  DeviceValues<float> carried(ctx_, step * kFeedbackColumns);
  DeviceValues<int8_t> codes(ctx_, stored.rows * k);
  const UploadedGrid grid = upload_grid(ctx_, problem.grid);
  CublasLt& lt = *cublaslt_of(*ctx_.cuda).value();
  FeedbackArgs block;
  block.stored = weight.get();
  block.order = factor.on_device.get();
  block.factor = factor.rows.get();
  block.delta = delta.get();
  block.codes = codes.get();
  block.grid = grid.view;
  block.k = k;
  for (block.first_row = 0; block.first_row < stored.rows; block.first_row += step) {
    block.num_rows = std::min(step, stored.rows - block.first_row);
    for (block.begin = 0; block.begin < k; block.begin += kFeedbackColumns) {
      block.carried = block.begin == 0 ? nullptr : carried.get();
      if (block.begin > 0) carry(lt, block, carried.get(), ctx_.cuda->stream);
      launch_feedback(block, ctx_.cuda->stream);
    }
  }
  std::vector<int8_t> result(stored.values.size());
  codes.copy_to(result.data(), stored.rows * k);
  return result;
}

Result<std::vector<int8_t>> DeviceHessian::code(const FeedbackProblem& problem) {
  rows_.free();
  stored_.free();
  if (const auto lt = cublaslt_of(*ctx_.cuda); !lt) return lt.error();
  auto made = factor(problem.damp, problem.name);
  if (!made) return made.error();
  sum_.free();
  return code_with(*made, problem);
}

SymmetricMatrix DeviceHessian::to_host() const {
  SymmetricMatrix sum(layout_.k_padded);
  sum_.copy_to(sum.values.data(), static_cast<int64_t>(sum.values.size()));
  for (int64_t i = 0; i < sum.n; ++i) {
    std::fill(&sum.at(i, i) + 1, sum.values.data() + (i + 1) * sum.n, 0.0);
  }
  return sum;
}

void DeviceHessian::assign(const SymmetricMatrix& sum) {
  COMET_CHECK(sum.n == layout_.k_padded, "{} channels, not {}", sum.n, layout_.k_padded);
  sum_.copy_from(sum.values.data(), static_cast<int64_t>(sum.values.size()));
}

}  // namespace comet::quant::cuda
