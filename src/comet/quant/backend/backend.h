// Backend: the heavy work of quantization, on the device it was asked for: decoder layers over the
// calibration text, Hessians and GPTQ, large products. What is light (statistics, scales, searches
// on samples, packing) is the host's everywhere. Callers: quantize_model and what it calls; a CPU's
// backend for planning and tests. One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "comet/formats/quantized_weight.h"
#include "comet/kv/kv_format.h"
#include "comet/ops/context.h"
#include "comet/quant/matrix.h"
#include "comet/quant/weights/weight_grid.h"
#include "comet/tensor/rows.h"

namespace comet::quant {

/// Codes for `stored` [rows, k_padded] on `grid`, as weights/gptq.h defines them.
struct FeedbackProblem {
  const std::string& name;  // of the linear, for warnings and errors
  const Matrix& stored;
  const WeightGrid& grid;
  double damp = 0.01;
};

/// Σ x·xᵀ over a site's quantized input rows in stored order, and what GPTQ makes of it.
class SiteHessian {
 public:
  virtual ~SiteHessian() = default;
  [[nodiscard]] virtual int64_t num_channels() const = 0;  // k_padded
  /// rows [n, k] in the model's order, where and as the device multiplies them; their quantized
  /// stored form is what counts. Independent of how rows are handed over.
  virtual void add(ConstRows rows) = 0;
  /// codes [rows, k_padded]; nothing may be added after it. An error when the sum is not positive
  /// definite even with damping.
  virtual Result<std::vector<int8_t>> code(const FeedbackProblem& problem) = 0;
};

/// A site's input rows over all calibration tokens, in the device's memory, FP32.
class KeptRows {
 public:
  virtual ~KeptRows() = default;
  /// Behind those that are there; where and as the device multiplies them.
  virtual void append(ConstRows rows) = 0;
  /// Every channel divided by its scale.
  virtual void scale(std::span<const float> scales) = 0;
  /// Channel order[i] becomes channel i.
  virtual void permute(std::span<const int32_t> order) = 0;
  /// Those that are there.
  [[nodiscard]] virtual ConstRows rows() const = 0;
};

class Backend {
 public:
  Backend(Context& of_host, Context& of_device) : host(of_host), device(of_device) {}
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;
  virtual ~Backend() = default;

  Context& host;    // a CPU's
  Context& device;  // where layers run; the same on a CPU

  /// `count` floats between the host's memory and the device's; done when they return.
  virtual void upload(float* to_device, const float* from, int64_t count) = 0;
  /// Rows of any float type as FP32; waits for all that was launched.
  [[nodiscard]] virtual Matrix download(ConstRows rows) = 0;
  /// a · bᵀ, [a.rows, b.rows], in FP32.
  virtual Matrix product(const Matrix& a, const Matrix& b) = 0;
  virtual std::unique_ptr<SiteHessian> make_hessian(const formats::SiteLayout& layout) = 0;
  /// Room for num_rows rows of k channels.
  virtual std::unique_ptr<KeptRows> make_kept_rows(int64_t num_rows, int64_t k) = 0;
  /// The cache of float layers: the widest rows that the device's attention has.
  [[nodiscard]] virtual const kv::KvFormat& widest_cache() const = 0;
  /// Free bytes of the device's own memory; none where it has none.
  [[nodiscard]] virtual std::optional<int64_t> free_device_bytes() const { return std::nullopt; }
};

/// The backend of the context's device; `ctx` must live as long.
std::unique_ptr<Backend> make_backend(Context& ctx);

/// The two it chooses from. A build without CUDA has the first alone.
std::unique_ptr<Backend> make_cpu_backend(Context& ctx);
std::unique_ptr<Backend> make_cuda_backend(Context& ctx);

}  // namespace comet::quant
