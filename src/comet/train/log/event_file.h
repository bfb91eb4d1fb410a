// EventFile: scalars of a training run as TensorBoard reads them: TFRecords (length, data, masked
// CRC32C of each) of `Event` messages in protocol buffers' wire format (docs/adr/0017). Callers:
// apps.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "comet/io/file.h"

namespace comet::train {

struct Scalar {
  std::string_view tag;  // "train/loss"
  double value = 0;      // kept as FP32
};

class EventFile {
 public:
  /// events.out.tfevents.<seconds>.<num_steps> in `directory`. Of a run that goes on after
  /// `num_steps`, TensorBoard forgets the later steps of older files.
  static Result<EventFile> create(const std::string& directory, int64_t num_steps);

  /// One event, in the file when this returns.
  Status add(int64_t step, std::span<const Scalar> scalars);

 private:
  explicit EventFile(io::OutputFile file) : file_(std::move(file)) {}
  Status write_event(int64_t step, std::string_view what);

  io::OutputFile file_;
};

/// CRC32C (Castagnoli; RFC 3720 §B.4).
uint32_t crc32c(std::string_view bytes);

}  // namespace comet::train
