#include <algorithm>

#include "comet/quant/backend/backend.h"
#include "comet/quant/fmpq/permutation.h"
#include "comet/quant/matrix_product.h"
#include "comet/quant/weights/host_hessian.h"

namespace comet::quant {
namespace {

class HostRows final : public KeptRows {
 public:
  HostRows(ThreadPool& pool, int64_t num_rows, int64_t k) : pool_(pool), kept_(num_rows, k) {}

  void append(ConstRows rows) override {
    const View<const float, 2> view = rows.f32();
    COMET_CHECK(num_rows_ + rows.num_rows <= kept_.rows && rows.num_columns == kept_.cols,
                "{} rows of {} after {} of {}", rows.num_rows, rows.num_columns, num_rows_,
                kept_.rows);
    pool_.parallel_for(rows.num_rows, [&](int64_t t, int) {
      std::copy_n(view.row(t), kept_.cols, kept_.row(num_rows_ + t));
    });
    num_rows_ += rows.num_rows;
  }
  void scale(std::span<const float> scales) override {
    std::vector<int64_t> channels;
    for (size_t c = 0; c < scales.size(); ++c) {
      if (scales[c] != 1.0F) channels.push_back(static_cast<int64_t>(c));
    }
    pool_.parallel_for(num_rows_, [&](int64_t t, int) {
      for (const int64_t c : channels) kept_.row(t)[c] /= scales[c];
    });
  }
  void permute(std::span<const int32_t> order) override { permute_columns(pool_, kept_, order); }
  [[nodiscard]] ConstRows rows() const override {
    return View<const float, 2>{kept_.values.data(), {num_rows_, kept_.cols}};
  }

 private:
  ThreadPool& pool_;
  Matrix kept_;
  int64_t num_rows_ = 0;
};

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
  std::unique_ptr<KeptRows> make_kept_rows(int64_t num_rows, int64_t k) override {
    return std::make_unique<HostRows>(host.pool, num_rows, k);
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
