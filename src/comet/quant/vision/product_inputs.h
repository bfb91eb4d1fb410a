// ProductInputs: what calibration images put into the products of a float classifier: Hessians of
// the quantized rows for GPTQ, and some rows for scales and the report. Rows are pixels; those that
// count are spread evenly over an image's. Callers: quantize_vision.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "comet/nn/linear.h"
#include "comet/quant/backend/backend.h"
#include "comet/quant/matrix.h"

namespace comet::quant {

class ProductInputs final : public nn::InputObserver {
 public:
  /// Rows that a product's Hessian is made of, and that are kept, at most.
  static constexpr int64_t kMaxHessianRows = 16384;
  static constexpr int64_t kMaxKeptRows = 512;

  /// Rows come from the device of `backend`; Hessians are made on its host.
  ProductInputs(Backend& backend, int64_t num_batches);

  /// Must be called of every product that is observed.
  void watch(const formats::SiteLayout& layout, const std::string& product, bool needs_hessian);
  void on_input(const nn::Linear& linear, ConstRows rows) override;

  /// Null where none was asked for.
  SiteHessian* hessian(const std::string& product) { return sites_.at(product).hessian.get(); }
  /// [≤ kMaxKeptRows, k] in the model's order.
  Matrix kept_rows(const std::string& product) const;
  /// Gives the memory of a product back.
  void drop(const std::string& product) { sites_.erase(product); }

 private:
  struct Site {
    std::unique_ptr<SiteHessian> hessian;
    int64_t k = 0;
    std::vector<float> kept;
  };

  Backend& backend_;
  std::unique_ptr<Backend> host_;
  int64_t num_batches_;
  std::map<std::string, Site> sites_;
};

}  // namespace comet::quant
