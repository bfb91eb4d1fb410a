#include <algorithm>

#include "comet/quant/backend/backend.h"
#include "comet/quant/matrix_product.h"
#include "comet/quant/weights/host_hessian.h"

namespace comet::quant {
namespace {

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(Context& ctx) : Backend(ctx, ctx) {}

  void upload(float* to_device, const float* from, int64_t count) override {
    std::copy_n(from, count, to_device);
  }
  Matrix download(ConstRows rows) override {
    const View<const float, 2> view = rows.f32();
    Matrix copy(rows.num_rows, rows.num_columns);
    for (int64_t i = 0; i < copy.rows; ++i) std::copy_n(view.row(i), copy.cols, copy.row(i));
    return copy;
  }
  Matrix product(const Matrix& a, const Matrix& b) override { return matrix_product(host, a, b); }
  std::unique_ptr<SiteHessian> make_hessian(const formats::SiteLayout& layout) override {
    return std::make_unique<HostHessian>(host, layout);
  }
  const kv::KvFormat& widest_cache() const override { return kv::kv32_format(); }
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(Context& ctx) {
  return std::make_unique<CpuBackend>(ctx);
}

std::unique_ptr<Backend> make_backend(Context& ctx) {
  return ctx.cuda == nullptr ? make_cpu_backend(ctx) : make_cuda_backend(ctx);
}

}  // namespace comet::quant
