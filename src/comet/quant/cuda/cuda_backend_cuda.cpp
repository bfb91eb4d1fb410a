// The backend on a GPU. Host and device each have a context; both share one thread pool.
#include <algorithm>

#include "comet/device/cuda/cublaslt.h"
#include "comet/device/cuda/device_memory.h"
#include "comet/ops/op_table.h"
#include "comet/quant/backend/backend.h"
#include "comet/quant/cuda/device_hessian.h"
#include "comet/quant/cuda/device_rows.h"

namespace comet::quant {
namespace {

Caps without_gpu(Caps caps) {
  caps.kind = DeviceKind::kCpu;
  caps.gpu_name.clear();
  caps.sm = caps.num_sms = 0;
  caps.gpu_memory_bytes = 0;
  return caps;
}

/// The CPU's context beside a GPU's.
class HostSide {
 protected:
  explicit HostSide(Context& gpu)
      : caps_(without_gpu(gpu.caps)),
        arena_(host_allocator()),
        context_{{DeviceKind::kCpu, 0}, caps_,  cpu_op_table(caps_.cpu_isa), arena_, gpu.pool,
                 host_allocator(),      nullptr} {}

  Caps caps_;
  Arena arena_;
  Context context_;
};

class CudaBackend final : private HostSide, public Backend {
 public:
  explicit CudaBackend(Context& ctx) : HostSide(ctx), Backend(context_, ctx) {}

  void upload(float* to_device, const float* from, int64_t count) override {
    COMET_CUDA(cudaMemcpyAsync(to_device, from, static_cast<size_t>(count) * sizeof(float),
                               cudaMemcpyHostToDevice, device.cuda->stream));
    COMET_CUDA(cudaStreamSynchronize(device.cuda->stream));
  }

  Matrix download(ConstRows rows) override {
    if (rows.dtype == DType::kF32) {
      Matrix values(rows.num_rows, rows.num_columns);
      copy_rows(values.values.data(), rows);
      return values;
    }
    COMET_CHECK(rows.dtype == DType::kBF16, "rows of {}", dtype_name(rows.dtype));
    std::vector<BFloat16> narrow(static_cast<size_t>(rows.num_rows * rows.num_columns));
    copy_rows(narrow.data(), rows);
    Matrix values(rows.num_rows, rows.num_columns);
    host.pool.parallel_for(rows.num_rows, [&](int64_t i, int) {
      const BFloat16* from = narrow.data() + i * rows.num_columns;
      std::transform(from, from + rows.num_columns, values.row(i),
                     [](BFloat16 x) { return to_float(x); });
    });
    return values;
  }

  Matrix product(const Matrix& a, const Matrix& b) override {
    COMET_CHECK(a.cols == b.cols, "{} and {} columns", a.cols, b.cols);
    const cuda::DeviceValues<float> x(device, a.values);
    const cuda::DeviceValues<float> w(device, b.values);
    const cuda::DeviceValues<float> out(device, a.rows * b.rows);
    MatmulDesc desc;
    desc.in = DType::kF32;
    desc.out = DType::kF32;
    desc.rows = a.rows;
    desc.n = b.rows;
    desc.k = a.cols;
    run_matmul(*cublaslt_of(*device.cuda).value(), desc,
               {.x = x.get(), .w = w.get(), .out = out.get()}, device.cuda->stream);
    Matrix product(a.rows, b.rows);
    out.copy_to(product.values.data(), a.rows * b.rows);
    return product;
  }

  std::unique_ptr<SiteHessian> make_hessian(const formats::SiteLayout& layout) override {
    return std::make_unique<cuda::DeviceHessian>(device, layout);
  }

  std::unique_ptr<KeptRows> make_kept_rows(int64_t num_rows, int64_t k) override {
    return std::make_unique<cuda::DeviceRows>(device, num_rows, k);
  }

  const kv::KvFormat& widest_cache() const override { return *kv::find_kv_format("kv16").value(); }

  std::optional<int64_t> free_device_bytes() const override {
    return static_cast<int64_t>(gpu_memory().free_bytes);
  }

 private:
  void copy_rows(void* to, const ConstRows& rows) {
    if (rows.num_rows == 0) return;
    const auto element_bytes = static_cast<size_t>(dtype_bytes(rows.dtype));
    const size_t row_bytes = static_cast<size_t>(rows.num_columns) * element_bytes;
    COMET_CUDA(cudaMemcpy2DAsync(
        to, row_bytes, rows.data, static_cast<size_t>(rows.stride) * element_bytes, row_bytes,
        static_cast<size_t>(rows.num_rows), cudaMemcpyDeviceToHost, device.cuda->stream));
    COMET_CUDA(cudaStreamSynchronize(device.cuda->stream));
  }
};

}  // namespace

std::unique_ptr<Backend> make_cuda_backend(Context& ctx) {
  return std::make_unique<CudaBackend>(ctx);
}

}  // namespace comet::quant
