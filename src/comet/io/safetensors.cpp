#include "comet/io/safetensors.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <optional>

#include "comet/io/safetensors_header.h"

namespace comet::io {
namespace {

constexpr size_t kLengthBytes = 8;
constexpr size_t kAlignBytes = 64;
constexpr uint64_t kMaxAxisSize = uint64_t{1} << 40;
constexpr uint64_t kMaxElements = uint64_t{1} << 50;

/// The JSON text, once its length is known to lie in the file.
Result<std::string_view> header_text(const MappedFile& file) {
  if (file.bytes() < kLengthBytes) {
    return make_error(ErrorCode::kCorrupt,
                      "{}: {} bytes, too short for a safetensors file; download it again",
                      file.path(), file.bytes());
  }
  uint64_t length = 0;
  for (size_t i = kLengthBytes; i-- > 0;) {
    length = length << 8 | std::to_integer<uint64_t>(file.data()[i]);
  }
  if (length > SafetensorsFile::kMaxHeaderBytes) {
    return make_error(ErrorCode::kCorrupt,
                      "{}: header of {} bytes, more than the format's {}; this is not a "
                      "safetensors file",
                      file.path(), length, SafetensorsFile::kMaxHeaderBytes);
  }
  if (length > file.bytes() - kLengthBytes) {
    return make_error(ErrorCode::kCorrupt,
                      "{}: header of {} bytes in a file of {}: it is truncated; download it again",
                      file.path(), length, file.bytes());
  }
  return std::string_view(reinterpret_cast<const char*>(file.data()) + kLengthBytes, length);
}

/// Bounds every size before products are formed; even strides of a tensor with an axis of size 0
/// cannot overflow.
Result<TensorInfo> to_info(const HeaderEntry& entry, const std::string& path) {
  const uint64_t element_bytes = safetensors_dtype_bytes(entry.dtype);
  if (element_bytes == 0) {
    return make_error(ErrorCode::kCorrupt, "{}: tensor '{}' has the unknown dtype '{}'", path,
                      entry.name, entry.dtype.substr(0, 80));
  }
  uint64_t num_elements = 1;
  uint64_t bound = 1;
  std::vector<int64_t> sizes;
  for (const uint64_t size : entry.shape) {
    const uint64_t factor = std::max(size, uint64_t{1});
    if (size > kMaxAxisSize || factor > kMaxElements / bound) {
      return make_error(ErrorCode::kCorrupt,
                        "{}: tensor '{}' of shape [{}] is larger than Comet reads (2^40 an axis, "
                        "2^50 elements)",
                        path, entry.name, fmt::join(entry.shape, ", "));
    }
    bound *= factor;
    num_elements *= size;
    sizes.push_back(static_cast<int64_t>(size));
  }
  const uint64_t num_bytes = num_elements * element_bytes;
  if (entry.end < entry.begin || entry.end - entry.begin != num_bytes) {
    return make_error(ErrorCode::kCorrupt,
                      "{}: tensor '{}' of dtype {} and shape {} takes {} bytes, but its "
                      "data_offsets are [{}, {}]",
                      path, entry.name, entry.dtype, Shape(sizes).to_string(), num_bytes,
                      entry.begin, entry.end);
  }
  return TensorInfo{entry.dtype, Shape(sizes), entry.begin, num_bytes};
}

/// The tensors must cover the payload exactly, in some order.
Status check_cover(std::vector<HeaderEntry>& entries, uint64_t payload_bytes,
                   const std::string& path) {
  std::sort(entries.begin(), entries.end(), [](const HeaderEntry& a, const HeaderEntry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t covered = 0;
  for (const HeaderEntry& entry : entries) {
    if (entry.begin != covered) {
      return make_error(
          ErrorCode::kCorrupt,
          "{}: tensor '{}' begins at byte {} of the data, {} byte {} where it "
          "should begin",
          path, entry.name, entry.begin,
          entry.begin < covered ? "overlapping another tensor, before" : "leaving a hole, after",
          covered);
    }
    if (entry.end > payload_bytes) {
      return make_error(ErrorCode::kCorrupt,
                        "{}: tensor '{}' ends at byte {} of the data, but the file holds {}: it "
                        "is truncated; download it again",
                        path, entry.name, entry.end, payload_bytes);
    }
    covered = entry.end;
  }
  if (covered != payload_bytes) {
    return make_error(ErrorCode::kCorrupt,
                      "{}: {} bytes of data, but the tensors of its header end at byte {}", path,
                      payload_bytes, covered);
  }
  return {};
}

/// An aligned copy of bytes that no pointer to T may read in place.
std::shared_ptr<Storage> aligned_copy(const std::byte* data, size_t bytes) {
  constexpr auto kAlign = std::align_val_t{kAlignBytes};
  std::shared_ptr<void> owner(::operator new(bytes, kAlign),
                              [](void* p) { ::operator delete(p, kAlign); });
  std::memcpy(owner.get(), data, bytes);
  auto* copy = static_cast<std::byte*>(owner.get());
  return std::make_shared<Storage>(copy, bytes, std::move(owner));
}

}  // namespace

Result<SafetensorsFile> SafetensorsFile::open(const std::string& path) {
  auto mapped = MappedFile::open(path);
  if (!mapped) return mapped.error();
  SafetensorsFile file;
  file.file_ = *mapped;
  const auto text = header_text(*file.file_);
  if (!text) return text.error();
  auto header = parse_safetensors_header(*text, path);
  if (!header) return header.error();

  const size_t data_begin = kLengthBytes + text->size();
  file.payload_bytes_ = file.file_->bytes() - data_begin;
  for (const HeaderEntry& entry : header->entries) {
    auto info = to_info(entry, path);
    if (!info) return info.error();
    info->offset_bytes += data_begin;
    file.tensors_.emplace(entry.name, *std::move(info));
  }
  if (const Status cover = check_cover(header->entries, file.payload_bytes_, path); !cover) {
    return cover.error();
  }
  file.metadata_ = std::move(header->metadata);
  return file;
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> names;
  names.reserve(tensors_.size());
  for (const auto& [name, info] : tensors_) names.push_back(name);
  return names;
}

const TensorInfo* SafetensorsFile::find(std::string_view name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

Result<Tensor> SafetensorsFile::tensor(std::string_view name) const {
  const TensorInfo* info = find(name);
  if (info == nullptr) {
    return make_error(ErrorCode::kNotFound, "{}: there is no tensor '{}'", path(), name);
  }
  const auto dtype = parse_dtype(info->dtype);
  if (!dtype) {
    return make_error(ErrorCode::kUnsupported, "{}: tensor '{}': {}", path(), name,
                      dtype.error().message);
  }
  const std::byte* data = file_->data() + info->offset_bytes;
  const bool aligned =
      reinterpret_cast<uintptr_t>(data) % static_cast<size_t>(dtype_bytes(*dtype)) == 0;
  auto storage =
      aligned || info->num_bytes == 0
          ? std::make_shared<Storage>(const_cast<std::byte*>(data), info->num_bytes, file_)
          : aligned_copy(data, info->num_bytes);
  return Tensor(std::move(storage), 0, *dtype, info->shape);
}

void SafetensorsFile::release(std::string_view name) const {
  if (const TensorInfo* info = find(name)) file_->release(info->offset_bytes, info->num_bytes);
}

}  // namespace comet::io
