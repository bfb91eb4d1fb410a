// JSON → values that keep the order of keys, as Python's dicts do. Callers: the server and the apps
// for messages and tools, ChatTemplate for the configuration.
#pragma once

#include <string>
#include <string_view>

#include "comet/base/json.h"
#include "comet/base/result.h"
#include "comet/text/template/value/value.h"

namespace comet::text {

/// Json has lost the order of keys; where it shows (tojson of tools), take one of the other two.
/// Text that is not UTF-8 gets U+FFFD. At most kMaxJsonDepth levels, else COMET_CHECK.
jinja::Value value_of(const Json& json);
jinja::Value value_of(const OrderedJson& json);

inline constexpr int kMaxJsonDepth = 96;

/// Straight from the text, in one pass: linear even for an object of a million keys, which
/// OrderedJson is not. `source` opens every error.
Result<jinja::Value> parse_json_value(std::string_view text, std::string_view source,
                                      const JsonLimits& limits = {});

}  // namespace comet::text
