// TensorMap: a TensorSource held in memory, for tests of formats and models. Tensors are owned.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "comet/device/device.h"
#include "comet/formats/format.h"

namespace comet::testing {

template <typename T>
Tensor make_tensor(const Shape& shape, const std::vector<T>& values) {
  COMET_CHECK(static_cast<int64_t>(values.size()) == shape.num_elements(), "{} values",
              values.size());
  Tensor tensor(std::make_shared<Storage>(host_allocator(), values.size() * sizeof(T)), 0,
                DTypeOf<T>::value, shape);
  std::copy(values.begin(), values.end(), tensor.data<T>());
  return tensor;
}

class TensorMap final : public formats::TensorSource {
 public:
  void set(const std::string& name, Tensor tensor) { tensors_[name] = std::move(tensor); }
  void erase(const std::string& name) { tensors_.erase(name); }
  Tensor& at(const std::string& name) { return tensors_.at(name); }
  void add(const formats::PackedLinear& packed) {
    for (const auto& [name, tensor] : packed.tensors) set(name, tensor);
  }

  [[nodiscard]] bool contains(std::string_view name) const override {
    return tensors_.contains(std::string(name));
  }
  [[nodiscard]] Result<Tensor> get(std::string_view name, std::span<const DType> dtypes,
                                   const Shape& shape) const override {
    const auto it = tensors_.find(std::string(name));
    if (it == tensors_.end()) {
      return make_error(ErrorCode::kNotFound, "memory: no tensor '{}'", name);
    }
    const Tensor& tensor = it->second;
    if (std::find(dtypes.begin(), dtypes.end(), tensor.dtype()) == dtypes.end() ||
        !(tensor.shape() == shape)) {
      return make_error(ErrorCode::kCorrupt, "memory: tensor '{}' is {} {}; expected {}", name,
                        dtype_name(tensor.dtype()), tensor.shape().to_string(), shape.to_string());
    }
    return tensor;
  }

 private:
  std::map<std::string, Tensor> tensors_;
};

}  // namespace comet::testing
