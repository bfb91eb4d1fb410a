// Disks that fill up, for tests: a limit on file sizes (any user), a tiny file system (root).
#pragma once

#include <sys/mount.h>
#include <sys/resource.h>

#include <csignal>
#include <string>

namespace comet::testing {

/// No file of this process grows past `max_bytes` while it lives: writing more fails with EFBIG.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t max_bytes) {
    old_handler_ = std::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &old_);
    rlimit limit = old_;
    limit.rlim_cur = max_bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, old_handler_);
  }

 private:
  rlimit old_{};
  void (*old_handler_)(int) = SIG_DFL;
};

/// A file system of `max_bytes` in memory at `path`; ok() is false where mounting is not allowed.
class TinyDisk {
 public:
  TinyDisk(std::string path, size_t max_bytes)
      : path_(std::move(path)),
        mounted_(::mount("tmpfs", path_.c_str(), "tmpfs", 0,
                         ("size=" + std::to_string(max_bytes)).c_str()) == 0) {}
  TinyDisk(const TinyDisk&) = delete;
  TinyDisk& operator=(const TinyDisk&) = delete;
  ~TinyDisk() {
    if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
  }
  [[nodiscard]] bool ok() const { return mounted_; }

 private:
  std::string path_;
  bool mounted_;
};

}  // namespace comet::testing
