// Writes a checkpoint's tensors one at a time, holding none: model.safetensors, or
// model-00001-of-0000N.safetensors plus model.safetensors.index.json when one shard is too small.
// Callers: quant, formats' exporters. The same sequence of appends gives the same bytes, also when
// it was broken off and continued from a save point.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "comet/base/result.h"
#include "comet/io/file.h"
#include "comet/tensor/tensor.h"

namespace comet::io {

struct SafetensorsWriterOptions {
  /// A shard that holds a tensor is closed before one that would pass this size.
  uint64_t max_shard_bytes = 5'000'000'000;
  /// Room kept for each shard's header (the format allows spaces behind its JSON). A shard whose
  /// header is full is closed too: about 1,000 tensors fit into the default.
  size_t header_bytes = size_t{128} << 10;
  std::map<std::string, std::string> metadata = {{"format", "pt"}};  // transformers asks for it
};

class SafetensorsWriter {
 public:
  /// `directory` must exist and hold no model.safetensors or index. Shards are named
  /// `model-0000i.safetensors.partial` until finish().
  static Result<SafetensorsWriter> create(const std::string& directory,
                                          SafetensorsWriterOptions options = {});
  /// Goes on where `save_point` was taken, in a folder whose writer was killed or left its files
  /// behind, whatever it did after that point (finish() included). The options are the same.
  static Result<SafetensorsWriter> continue_from(const std::string& directory,
                                                 std::string_view save_point,
                                                 SafetensorsWriterOptions options = {});
  SafetensorsWriter(SafetensorsWriter&& other) noexcept;
  SafetensorsWriter& operator=(SafetensorsWriter&&) = delete;
  /// Removes the partial files unless finish() succeeded or keep_files() was called.
  ~SafetensorsWriter();

  /// Writes a contiguous tensor in host memory. An error (disk full, a name given twice) ends the
  /// writer: every later call repeats it.
  Status append(const std::string& name, const Tensor& tensor);
  /// Syncs what has been appended and says, as a line of JSON, what continue_from() must know.
  Result<std::string> save_point();
  /// An unfinished writer leaves its files for continue_from().
  void keep_files() { kept_ = true; }
  /// Writes headers and index, syncs, gives the files their final names; returns those names
  /// (without folder). No append after it.
  Result<std::vector<std::string>> finish();
  /// Bytes of tensors appended so far.
  [[nodiscard]] uint64_t payload_bytes() const { return payload_bytes_; }

 private:
  struct Shard;
  SafetensorsWriter(std::string directory, SafetensorsWriterOptions options);
  Status open_shard();
  Status reopen_shard(const std::string& header_text);
  Status close_shard();
  Status append_checked(const std::string& name, const Tensor& tensor);
  Result<std::vector<std::string>> publish();
  Status write_index(const std::vector<std::string>& names) const;

  std::string directory_;
  SafetensorsWriterOptions options_;
  std::unique_ptr<Shard> shard_;            // the one being written
  std::vector<std::string> paths_;          // of every shard so far, as named now
  std::map<std::string, size_t> shard_of_;  // tensor name -> index into paths_
  uint64_t payload_bytes_ = 0;
  bool finished_ = false;
  bool kept_ = false;
  std::optional<Error> failure_;
};

}  // namespace comet::io
