// What the machine has left: free_disk_bytes and available_memory_bytes of file.h.
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <optional>
#include <string_view>

#include "comet/io/file.h"
#include "comet/io/system_error.h"

namespace comet::io {
namespace {

constexpr size_t kMaxProcBytes = size_t{1} << 20;

std::optional<uint64_t> leading_number(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return std::nullopt;
  uint64_t value = 0;
  const auto [end, failure] =
      std::from_chars(text.data() + begin, text.data() + text.size(), value);
  if (failure != std::errc{}) return std::nullopt;
  return value;
}

/// The number behind `key` on the line that starts with it ("MemAvailable:   123 kB").
std::optional<uint64_t> field_of(std::string_view text, std::string_view key) {
  for (size_t at = 0; at < text.size(); at = std::min(text.find('\n', at), text.size() - 1) + 1) {
    if (text.substr(at).starts_with(key)) return leading_number(text.substr(at + key.size()));
  }
  return std::nullopt;
}

std::optional<uint64_t> number_in(const std::string& path) {
  const auto text = read_file(path, kMaxProcBytes);
  return text ? leading_number(*text) : std::nullopt;
}

/// Where one version of cgroups keeps its numbers.
struct CgroupFiles {
  std::string_view mount;
  std::string_view limit;
  std::string_view usage;
  std::string_view inactive_cache;  // field of memory.stat: page cache the kernel may drop
};
constexpr CgroupFiles kCgroup2{"sys/fs/cgroup", "memory.max", "memory.current", "inactive_file "};
constexpr CgroupFiles kCgroup1{"sys/fs/cgroup/memory", "memory.limit_in_bytes",
                               "memory.usage_in_bytes", "total_inactive_file "};

/// What one group's limit leaves; empty without a limit ("max", or v1's number near 2^63).
std::optional<uint64_t> left_in_group(const std::string& folder, const CgroupFiles& files) {
  const auto limit = number_in(folder + "/" + std::string(files.limit));
  if (!limit) return std::nullopt;
  const uint64_t usage = number_in(folder + "/" + std::string(files.usage)).value_or(0);
  const auto stat = read_file(folder + "/memory.stat", kMaxProcBytes);
  const uint64_t cache = stat ? field_of(*stat, files.inactive_cache).value_or(0) : 0;
  const uint64_t held = usage - std::min(usage, cache);
  return *limit - std::min(*limit, held);
}

/// The least that the group at `path` and its ancestors leave. Inside a container the path may
/// name folders of the host that are not mounted here; they are skipped up to the mount itself.
uint64_t left_in_tree(const std::string& root, std::string_view path, const CgroupFiles& files) {
  const std::string mount = root + std::string(files.mount);
  uint64_t least = UINT64_MAX;
  std::string group(path);
  while (true) {
    if (group.ends_with('/')) group.pop_back();
    least = std::min(least, left_in_group(mount + group, files).value_or(UINT64_MAX));
    const size_t slash = group.rfind('/');
    if (slash == std::string::npos) return least;
    group.resize(slash);
  }
}

/// Lines of /proc/self/cgroup: "0::/path" (v2) or "5:memory:/path" (v1).
uint64_t left_in_cgroups(const std::string& root) {
  const auto groups = read_file(root + "proc/self/cgroup", kMaxProcBytes);
  if (!groups) return UINT64_MAX;
  uint64_t least = UINT64_MAX;
  std::string_view rest = *groups;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    const size_t first = line.find(':');
    const size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const std::string controllers = fmt::format(",{},", line.substr(first + 1, second - first - 1));
    const std::string_view path = line.substr(second + 1);
    if (path.find("..") != std::string_view::npos) continue;  // a group above our namespace
    if (controllers == ",,") least = std::min(least, left_in_tree(root, path, kCgroup2));
    if (controllers.find(",memory,") != std::string::npos) {
      least = std::min(least, left_in_tree(root, path, kCgroup1));
    }
  }
  return least;
}

}  // namespace

Result<uint64_t> free_disk_bytes(const std::string& path) {
  std::error_code ignored;
  std::filesystem::path place = std::filesystem::absolute(path, ignored);
  while (!std::filesystem::exists(place, ignored) && place.has_relative_path()) {
    place = place.parent_path();
  }
  struct statvfs info{};
  if (::statvfs(place.c_str(), &info) != 0) {
    return system_error(path, "read the free space of its disk", errno);
  }
  return static_cast<uint64_t>(info.f_bavail) * info.f_frsize;
}

Result<uint64_t> available_memory_bytes(const std::string& root) {
  const std::string path = root + "proc/meminfo";
  const auto meminfo = read_file(path, kMaxProcBytes);
  if (!meminfo) return meminfo.error();
  const auto available_kib = field_of(*meminfo, "MemAvailable:");
  if (!available_kib) {
    return make_error(ErrorCode::kUnsupported, "{}: has no MemAvailable line (Linux 3.14 or later)",
                      path);
  }
  return std::min(*available_kib << 10, left_in_cgroups(root));
}

}  // namespace comet::io
