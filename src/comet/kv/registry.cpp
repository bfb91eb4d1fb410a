#include <array>

#include "comet/kv/kv16/kv16.h"
#include "comet/kv/kv4/kv4.h"
#include "comet/kv/kv8/kv8.h"
#include "comet/kv/kv8_fp8/kv8_fp8.h"
#include "comet/kv/kv_format.h"

namespace comet::kv {

std::span<const KvFormat* const> kv_formats() {
  static const std::array<const KvFormat*, 4> formats{&kv16_format(), &kv8_format(), &kv4_format(),
                                                      &kv8_fp8_format()};
  return formats;
}

Result<const KvFormat*> find_kv_format(std::string_view name) {
  std::string known;
  for (const KvFormat* format : kv_formats()) {
    if (format->name == name) return format;
    known += (known.empty() ? "" : ", ") + std::string(format->name);
  }
  return make_error(ErrorCode::kInvalidArgument, "KV cache format '{}' is unknown; expected {}",
                    name, known);
}

}  // namespace comet::kv
