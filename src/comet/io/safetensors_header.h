// The JSON header of a safetensors file as text <-> entries; no file access. Private to this room:
// safetensors.cpp checks the entries against the file, safetensors_writer.cpp formats them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "comet/base/result.h"

namespace comet::io {

struct HeaderEntry {
  std::string name;
  std::string dtype;
  std::vector<uint64_t> shape;  // at most Shape::kMaxRank sizes
  uint64_t begin = 0;           // in the payload
  uint64_t end = 0;
};

struct SafetensorsHeader {
  std::vector<HeaderEntry> entries;  // in the order of the text
  std::map<std::string, std::string> metadata;
};

/// Refuses unknown, missing and repeated fields, repeated tensors, and deep nesting as it reads,
/// so memory stays in proportion to the text.
Result<SafetensorsHeader> parse_safetensors_header(std::string_view text,
                                                   const std::string& source);

/// Metadata first, then the entries in their order; no spaces.
std::string format_safetensors_header(const SafetensorsHeader& header);

/// Bytes of one element of any dtype of the format with whole bytes; 0 for an unknown name.
uint64_t safetensors_dtype_bytes(std::string_view dtype);

}  // namespace comet::io
