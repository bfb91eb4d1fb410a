#include "comet/io/system_error.h"

#include <cerrno>
#include <system_error>

namespace comet::io {

Error system_error(std::string_view path, std::string_view action, int errno_value) {
  const std::string reason = std::generic_category().message(errno_value);
  switch (errno_value) {
    case ENOENT:
    case ENOTDIR:
      return make_error(ErrorCode::kNotFound, "{}: cannot {}: there is no such file or folder",
                        path, action);
    case ENOSPC:
    case EDQUOT:
      return make_error(ErrorCode::kResourceExhausted,
                        "{}: cannot {}: {}; free some space or choose a folder on another disk",
                        path, action, reason);
    case EFBIG:
      return make_error(ErrorCode::kResourceExhausted,
                        "{}: cannot {}: {}; the file system or `ulimit -f` limits file sizes", path,
                        action, reason);
    case EACCES:
    case EPERM:
    case EROFS:
      return make_error(ErrorCode::kIo, "{}: cannot {}: {}; check the permissions", path, action,
                        reason);
    default:
      return make_error(ErrorCode::kIo, "{}: cannot {}: {}", path, action, reason);
  }
}

}  // namespace comet::io
