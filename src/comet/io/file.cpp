#include "comet/io/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "comet/io/system_error.h"

namespace comet::io {
namespace {

/// A file descriptor closed at the end of the scope, and the size fstat gave.
struct ReadableFile {
  explicit ReadableFile(int descriptor) : fd(descriptor) {}
  ReadableFile(ReadableFile&& other) noexcept
      : fd(std::exchange(other.fd, -1)), bytes(other.bytes) {}
  ReadableFile& operator=(ReadableFile&&) = delete;
  ~ReadableFile() {
    if (fd >= 0) ::close(fd);
  }
  int fd;
  size_t bytes = 0;
};

Result<ReadableFile> open_regular(const std::string& path) {
  // O_NONBLOCK: opening a pipe must not wait for its writer; it means nothing to regular files.
  ReadableFile file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (file.fd < 0) return system_error(path, "open it for reading", errno);
  struct stat info{};
  if (::fstat(file.fd, &info) != 0) return system_error(path, "read its size", errno);
  if (!S_ISREG(info.st_mode)) {
    return make_error(ErrorCode::kInvalidArgument, "{}: is {}; expected a regular file", path,
                      S_ISDIR(info.st_mode) ? "a folder" : "a device, pipe or socket");
  }
  file.bytes = static_cast<size_t>(info.st_size);
  return file;
}

Error too_large(const std::string& path, size_t max_bytes) {
  return make_error(ErrorCode::kCorrupt,
                    "{}: larger than the {} bytes expected of such a file at most", path,
                    max_bytes);
}

/// Makes a rename in `path`'s folder outlive a power cut. Some file systems refuse to sync a
/// folder; the content is synced by then, so that is not an error.
void sync_folder_of(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  const int fd = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

}  // namespace

Result<std::string> read_file(const std::string& path, size_t max_bytes) {
  auto file = open_regular(path);
  if (!file) return file.error();
  if (file->bytes > max_bytes) return too_large(path, max_bytes);
  // One byte more than fstat said shows the end at the first read; files of /proc say 0.
  std::string content(file->bytes + 1, '\0');
  size_t num_read = 0;
  while (true) {
    const ssize_t got = ::read(file->fd, content.data() + num_read, content.size() - num_read);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(path, "read it", errno);
    if (got == 0) break;
    num_read += static_cast<size_t>(got);
    if (num_read > max_bytes) return too_large(path, max_bytes);
    if (num_read == content.size()) content.resize(content.size() * 2 + 4096);
  }
  content.resize(num_read);
  return content;
}

Result<std::shared_ptr<const MappedFile>> MappedFile::open(const std::string& path) {
  auto file = open_regular(path);
  if (!file) return file.error();
  const std::byte* data = nullptr;
  if (file->bytes > 0) {
    void* address = ::mmap(nullptr, file->bytes, PROT_READ, MAP_PRIVATE, file->fd, 0);
    if (address == MAP_FAILED) return system_error(path, "map it into memory", errno);
    data = static_cast<const std::byte*>(address);
  }
  return std::shared_ptr<const MappedFile>(new MappedFile(path, data, file->bytes));
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), bytes_);
}

void MappedFile::advise(Access access, size_t offset, size_t length) const {
  if (data_ == nullptr || offset >= bytes_) return;
  constexpr int kAdvice[] = {MADV_NORMAL, MADV_SEQUENTIAL, MADV_RANDOM, MADV_WILLNEED};
  const auto page_bytes = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t begin = offset / page_bytes * page_bytes;
  const size_t end = offset + std::min(length, bytes_ - offset);
  ::madvise(const_cast<std::byte*>(data_) + begin, end - begin,
            kAdvice[static_cast<size_t>(access)]);
}

void MappedFile::release(size_t offset, size_t length) const {
  if (data_ == nullptr || offset >= bytes_) return;
  const auto page_bytes = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t begin = (offset + page_bytes - 1) / page_bytes * page_bytes;
  const size_t end = (offset + std::min(length, bytes_ - offset)) / page_bytes * page_bytes;
  if (begin < end) ::madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

Result<OutputFile> OutputFile::create(const std::string& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);
  if (fd < 0) return system_error(path, "create it", errno);
  return OutputFile(path, fd);
}

Result<OutputFile> OutputFile::continue_at(const std::string& path, uint64_t num_bytes) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW);
  if (fd < 0) return system_error(path, "open it to write on", errno);
  OutputFile file(path, fd);
  struct stat info{};
  if (::fstat(fd, &info) != 0) return system_error(path, "read its size", errno);
  if (!S_ISREG(info.st_mode) || static_cast<uint64_t>(info.st_size) < num_bytes) {
    return make_error(ErrorCode::kCorrupt,
                      "{}: expected a file of at least {} bytes, found {}; it cannot be continued",
                      path, num_bytes, info.st_size);
  }
  const auto size = static_cast<off_t>(num_bytes);
  if (::ftruncate(fd, size) != 0) return system_error(path, "cut off its end", errno);
  if (::lseek(fd, size, SEEK_SET) != size) return system_error(path, "go to its end", errno);
  file.num_bytes_ = num_bytes;
  return file;
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      num_bytes_(other.num_bytes_) {}

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(num_bytes_, other.num_bytes_);
  return *this;
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) ::close(fd_);
}

Status OutputFile::write(std::span<const std::byte> bytes) {
  COMET_CHECK(fd_ >= 0, "{} is closed", path_);
  // Linux writes at most 2 GiB a call; short writes are normal before an error.
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd_, bytes.data(), std::min(bytes.size(), size_t{1} << 30));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) {
      return system_error(path_, fmt::format("write past its first {} bytes", num_bytes_), errno);
    }
    num_bytes_ += static_cast<uint64_t>(put);
    bytes = bytes.subspan(static_cast<size_t>(put));
  }
  return {};
}

Status OutputFile::write_at(uint64_t offset, std::span<const std::byte> bytes) {
  COMET_CHECK(fd_ >= 0, "{} is closed", path_);
  COMET_CHECK(offset + bytes.size() <= num_bytes_, "{} + {} bytes of {}", offset, bytes.size(),
              num_bytes_);
  while (!bytes.empty()) {
    const ssize_t put = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return system_error(path_, fmt::format("write at byte {}", offset), errno);
    offset += static_cast<uint64_t>(put);
    bytes = bytes.subspan(static_cast<size_t>(put));
  }
  return {};
}

Status OutputFile::sync() {
  COMET_CHECK(fd_ >= 0, "{} is closed", path_);
  if (::fsync(fd_) != 0 && errno != EINVAL) {  // EINVAL: a device, which cannot be synced
    return system_error(path_, "write it to the disk", errno);
  }
  return {};
}

Status OutputFile::close() {
  COMET_CHECK(fd_ >= 0, "{} is closed", path_);
  const bool synced = ::fsync(fd_) == 0;
  const int sync_errno = errno;
  const bool closed = ::close(std::exchange(fd_, -1)) == 0;
  if (!synced && sync_errno != EINVAL) {  // EINVAL: a device, which cannot be synced
    return system_error(path_, "write it to the disk", sync_errno);
  }
  if (!closed) return system_error(path_, "close it", errno);
  return {};
}

Status rename_file(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) {
    return system_error(from, fmt::format("rename it to {}", to), errno);
  }
  sync_folder_of(to);
  return {};
}

Status write_file_atomic(const std::string& path, std::string_view bytes) {
  const std::string temporary = path + ".tmp";
  auto file = OutputFile::create(temporary);
  if (!file) return file.error();
  Status status = file->write(std::as_bytes(std::span(bytes)));
  if (status) status = file->close();
  if (status) status = rename_file(temporary, path);
  if (!status) ::unlink(temporary.c_str());
  return status;
}

}  // namespace comet::io
