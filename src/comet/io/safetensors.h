// Reads one .safetensors file through a memory map: the whole header is checked when the file is
// opened, tensors share the map. Callers: checkpoint.h, tests. Tensors are read-only.
// Layout: u64 LE header length, JSON header, then the tensors' bytes without holes or overlaps.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "comet/base/result.h"
#include "comet/io/file.h"
#include "comet/tensor/tensor.h"

namespace comet::io {

/// What the header says about one tensor.
struct TensorInfo {
  std::string dtype;  // the safetensors name; known to the format, if not to Comet ("BOOL", "F64")
  Shape shape;
  size_t offset_bytes = 0;  // in the file
  size_t num_bytes = 0;
};

class SafetensorsFile {
 public:
  static constexpr size_t kMaxHeaderBytes = 100'000'000;

  /// Any contradiction (truncation, overlap, hole, duplicate, overflow, unknown dtype, more than
  /// five axes) is an error that names the file and the tensor.
  static Result<SafetensorsFile> open(const std::string& path);

  /// Sorted by name.
  [[nodiscard]] std::vector<std::string> names() const;
  [[nodiscard]] bool contains(std::string_view name) const { return find(name) != nullptr; }
  [[nodiscard]] const TensorInfo* find(std::string_view name) const;  // nullptr when absent
  /// Shares the map; copied to aligned memory when its offset does not fit its dtype.
  [[nodiscard]] Result<Tensor> tensor(std::string_view name) const;
  /// The tensor's pages may leave memory (MappedFile::release).
  void release(std::string_view name) const;

  [[nodiscard]] const std::map<std::string, std::string>& metadata() const { return metadata_; }
  [[nodiscard]] const std::string& path() const { return file_->path(); }
  /// Bytes of all tensors.
  [[nodiscard]] size_t payload_bytes() const { return payload_bytes_; }

 private:
  std::shared_ptr<const MappedFile> file_;
  std::map<std::string, TensorInfo, std::less<>> tensors_;
  std::map<std::string, std::string> metadata_;
  size_t payload_bytes_ = 0;
};

}  // namespace comet::io
