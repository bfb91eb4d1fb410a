// Errors of the operating system as sentences: what was tried, on which file, why it failed, and
// what to do. Private to this room.
#pragma once

#include <string>
#include <string_view>

#include "comet/base/result.h"

namespace comet::io {

/// "<path>: cannot <action>: <reason of errno_value>". ENOENT becomes kNotFound; a full disk or
/// quota becomes kResourceExhausted with advice.
Error system_error(std::string_view path, std::string_view action, int errno_value);

}  // namespace comet::io
