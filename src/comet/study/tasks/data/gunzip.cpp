#include "comet/study/tasks/data/gunzip.h"

#include <zlib.h>

#include <limits>

namespace comet::study {
namespace {

constexpr int kGzipOnly = 15 + 16;  // inflateInit2: the largest window, a gzip header is required

/// Owns what zlib allocates.
struct Inflater {
  z_stream stream{};
  int state = inflateInit2(&stream, kGzipOnly);
  Inflater() = default;
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  ~Inflater() { inflateEnd(&stream); }
};

Error broken(const std::string& source, std::string_view why) {
  return make_error(ErrorCode::kCorrupt, "{}: cannot be decompressed: {}", source, why);
}

/// What zlib says of a state that is neither Z_OK nor Z_STREAM_END.
std::string_view reason(const Inflater& inflater) {
  if (inflater.state == Z_BUF_ERROR) return "it ends too early";
  return inflater.stream.msg != nullptr ? inflater.stream.msg : "it is broken";
}

}  // namespace

Result<std::string> gunzip(std::string_view bytes, const std::string& source, size_t max_bytes) {
  if (!bytes.starts_with("\x1F\x8B")) return broken(source, "it is not gzip");
  if (bytes.size() > std::numeric_limits<uInt>::max()) return broken(source, "it is too large");
  Inflater inflater;
  COMET_CHECK(inflater.state == Z_OK, "inflateInit2 gave {}", inflater.state);
  z_stream& stream = inflater.stream;
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  std::string content;
  char block[1 << 16];
  while (true) {
    stream.next_out = reinterpret_cast<Bytef*>(block);
    stream.avail_out = sizeof(block);
    inflater.state = inflate(&stream, Z_NO_FLUSH);
    if (inflater.state != Z_OK && inflater.state != Z_STREAM_END) {
      return broken(source, reason(inflater));
    }
    content.append(block, sizeof(block) - stream.avail_out);
    if (content.size() > max_bytes) {
      return broken(source, fmt::format("it holds more than {} bytes", max_bytes));
    }
    if (inflater.state != Z_STREAM_END) continue;
    if (stream.avail_in == 0) return content;
    inflater.state = inflateReset(&stream);  // files may hold several members
  }
}

}  // namespace comet::study
