// Files: bounded reading, read-only memory maps, atomic writing, and what the machine has left.
// Callers: the readers and writers of this room, apps. Only regular files are read: a folder, pipe
// or device is an error, so a hostile model folder cannot make Comet hang.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "comet/base/result.h"

namespace comet::io {

/// The whole content of a file of at most `max_bytes`.
Result<std::string> read_file(const std::string& path, size_t max_bytes);

/// A file mapped read-only. Tensors share it through shared_ptr; writing to its bytes is a crash,
/// and so is a file that another program shortens while it is mapped.
class MappedFile {
 public:
  enum class Access { kNormal, kSequential, kRandom, kWillNeed };

  static Result<std::shared_ptr<const MappedFile>> open(const std::string& path);
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  [[nodiscard]] const std::byte* data() const { return data_; }  // nullptr for an empty file
  [[nodiscard]] size_t bytes() const { return bytes_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  /// A hint about the use of [offset, offset + length); never fails.
  void advise(Access access, size_t offset, size_t length) const;
  /// Gives the resident pages wholly inside [offset, offset + length) back to the system; they are
  /// read from the file again when touched. Keeps peak memory at about one layer.
  void release(size_t offset, size_t length) const;

 private:
  MappedFile(std::string path, const std::byte* data, size_t bytes)
      : path_(std::move(path)), data_(data), bytes_(bytes) {}

  std::string path_;
  const std::byte* data_;
  size_t bytes_;
};

/// A file being written from its start; errors (a full disk above all) name it and say what to do.
/// Nothing removes the file when writing fails: the owner does.
class OutputFile {
 public:
  /// Creates the file or empties the one that is there.
  static Result<OutputFile> create(const std::string& path);
  /// Goes on behind the first `num_bytes` of a file that has at least so many; the rest is cut off.
  static Result<OutputFile> continue_at(const std::string& path, uint64_t num_bytes);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&& other) noexcept;
  ~OutputFile();

  Status write(std::span<const std::byte> bytes);                      // at the end
  Status write_at(uint64_t offset, std::span<const std::byte> bytes);  // over existing bytes
  /// What has been written so far survives a crash of the machine.
  Status sync();
  /// fsync and close; late write errors come out here. No writing after it.
  Status close();
  [[nodiscard]] uint64_t num_bytes() const { return num_bytes_; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  OutputFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  std::string path_;
  int fd_ = -1;
  uint64_t num_bytes_ = 0;
};

/// Writes `<path>.tmp`, syncs it and renames it to `path`: readers see the old file or the whole
/// new one. On failure nothing of the new file is left.
Status write_file_atomic(const std::string& path, std::string_view bytes);

/// Renames a finished file onto its final name and syncs the folder.
Status rename_file(const std::string& from, const std::string& to);

/// Bytes an ordinary user can still write on the file system that holds `path` (the nearest
/// existing parent counts when `path` does not exist yet).
Result<uint64_t> free_disk_bytes(const std::string& path);

/// Bytes that can be allocated without swapping: the least of MemAvailable and what the limits of
/// the process's cgroups (v1 or v2) leave. `root` replaces "/" in tests.
Result<uint64_t> available_memory_bytes(const std::string& root = "/");

}  // namespace comet::io
