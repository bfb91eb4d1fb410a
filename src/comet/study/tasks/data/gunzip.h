// gunzip: the content of a .gz file (RFC 1952, 1951). Caller: rows.cpp, for HumanEval.jsonl.gz.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "comet/base/result.h"

namespace comet::study {

/// `source` opens every error. Refuses more than `max_bytes` of content; checks length and CRC-32.
Result<std::string> gunzip(std::string_view bytes, const std::string& source, size_t max_bytes);

}  // namespace comet::study
