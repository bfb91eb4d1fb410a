// Checkpoint: a Hugging Face model folder opened for reading: config.json and the tensors of
// model.safetensors or of the shards its index names. Callers: models (loading by name), quant,
// apps. Everything is checked at open() but the tensors' values; tensors are read-only maps.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "comet/base/result.h"
#include "comet/io/safetensors.h"
#include "comet/tensor/tensor.h"

namespace comet {
using Json = nlohmann::json;  // as in comet/base/json.h, which callers of config() include
}

namespace comet::io {

class Checkpoint {
 public:
  static Result<Checkpoint> open(const std::string& directory);

  [[nodiscard]] bool contains(std::string_view name) const;
  /// Sorted by name.
  [[nodiscard]] std::vector<std::string> names() const;
  [[nodiscard]] const TensorInfo* find(std::string_view name) const;  // nullptr when absent
  [[nodiscard]] Result<Tensor> tensor(std::string_view name) const;
  /// The error names file, tensor, and found against expected dtype and shape.
  [[nodiscard]] Result<Tensor> tensor(std::string_view name, std::span<const DType> dtypes,
                                      const Shape& expected) const;
  [[nodiscard]] Result<Tensor> tensor(std::string_view name, std::initializer_list<DType> dtypes,
                                      const Shape& expected) const {
    return tensor(name, std::span<const DType>(dtypes.begin(), dtypes.size()), expected);
  }
  /// The tensor's pages may leave memory until they are touched again.
  void release(std::string_view name) const;

  /// Bytes of all tensors.
  [[nodiscard]] size_t total_bytes() const;
  [[nodiscard]] const std::string& directory() const { return directory_; }
  [[nodiscard]] const Json& config() const { return *config_; }
  /// Path of config.json, for error messages.
  [[nodiscard]] std::string config_path() const;
  /// Path of the file that holds `name`; empty when absent.
  [[nodiscard]] std::string source(std::string_view name) const;

 private:
  std::string directory_;
  std::shared_ptr<const Json> config_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, size_t, std::less<>> file_of_;  // tensor name -> index into files_
};

}  // namespace comet::io
