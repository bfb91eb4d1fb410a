#include "comet/quant/output_folder.h"

#include <filesystem>
#include <vector>

#include "comet/io/file.h"

namespace comet::quant {
namespace {

namespace fs = std::filesystem;

/// "a/b/" → "a/b", so that ".partial" becomes part of the name.
std::string without_trailing_slashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

Error failed(const std::string& what, const std::string& path, const std::error_code& code) {
  return make_error(ErrorCode::kIo, "{}: cannot {}: {}", path, what, code.message());
}

/// Only what looks like a model may be replaced: --force on a home folder must not empty it.
Status check_replaceable(const std::string& out, bool force) {
  std::error_code code;
  if (!fs::is_directory(out, code)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: exists and is not a folder; choose another -o", out);
  }
  if (fs::is_empty(out, code)) return {};
  if (!force) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: exists already; choose another -o, or give --force to replace it", out);
  }
  if (!fs::is_regular_file(out + "/config.json", code)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: is not a model folder (no config.json), so --force does not replace it; "
                      "choose another -o",
                      out);
  }
  return {};
}

}  // namespace

Result<OutputFolder> OutputFolder::create(const std::string& out_path, const std::string& source,
                                          bool force, bool resume) {
  const std::string out = without_trailing_slashes(out_path);
  std::error_code code;
  if (out.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "-o: expected the name of a folder to make");
  }
  if (fs::exists(fs::symlink_status(out, code))) {
    if (fs::equivalent(out, source, code)) {
      return make_error(ErrorCode::kInvalidArgument,
                        "{}: is the model being read; choose another -o", out);
    }
    if (const Status status = check_replaceable(out, force); !status) return status.error();
  }
  const std::string partial = partial_of(out);
  if (!resume || !fs::is_directory(fs::symlink_status(partial, code))) {
    fs::remove_all(partial, code);
    if (code) return failed("remove the leavings of an earlier run", partial, code);
  }
  fs::create_directories(partial, code);
  if (code) return failed("make the folder", partial, code);
  return OutputFolder(out, partial);
}

std::string OutputFolder::partial_of(const std::string& out) {
  return without_trailing_slashes(out) + ".partial";
}

Status OutputFolder::clear() const {
  std::error_code code;
  std::vector<fs::path> inside;
  for (const auto& item : fs::directory_iterator(partial_, code)) inside.push_back(item.path());
  if (code) return failed("list the folder", partial_, code);
  for (const fs::path& path : inside) {
    fs::remove_all(path, code);
    if (code) return failed("remove it", path.string(), code);
  }
  return {};
}

OutputFolder::OutputFolder(OutputFolder&& other) noexcept
    : out_(std::move(other.out_)), partial_(std::move(other.partial_)), kept_(other.kept_) {
  other.partial_.clear();
}

OutputFolder::~OutputFolder() {
  std::error_code code;
  if (!partial_.empty() && !kept_) fs::remove_all(partial_, code);
}

Status OutputFolder::copy_if_present(const std::string& source, const std::string& name) const {
  std::error_code code;
  const std::string from = source + "/" + name;
  if (!fs::is_regular_file(from, code)) return {};
  const auto overwrite = fs::copy_options::overwrite_existing;  // of an interrupted run
  if (!fs::copy_file(from, partial_ + "/" + name, overwrite, code)) {
    return failed("copy the file", from, code);
  }
  return {};
}

Status OutputFolder::publish() {
  std::error_code code;
  const std::string old = out_ + ".old";
  const bool replaces = fs::exists(fs::symlink_status(out_, code));
  if (replaces) {
    fs::remove_all(old, code);
    if (code) return failed("remove the leavings of an earlier run", old, code);
    if (const Status moved = io::rename_file(out_, old); !moved) return moved;
  }
  if (const Status moved = io::rename_file(partial_, out_); !moved) {
    if (replaces) fs::rename(old, out_, code);  // the old model stays in its place
    return moved;
  }
  partial_.clear();
  if (replaces) fs::remove_all(old, code);
  return {};
}

}  // namespace comet::quant
