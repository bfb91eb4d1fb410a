// Who may come in, and what the log says of it: API keys, request ids, safe log text. Pure.
// Caller: Service.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "comet/base/result.h"
#include "comet/server/http/message.h"

namespace comet::server {

/// Whether the request carries one of `keys` (Authorization: Bearer, or X-Api-Key); true when there
/// are none. Takes the same time for every wrong key of a length.
bool has_valid_key(const http::HttpRequest& request, const std::vector<std::string>& keys);

/// One key a line; blank lines and lines with # first are skipped. `source` opens errors.
Result<std::vector<std::string>> parse_key_file(std::string_view text, const std::string& source);
/// An error unless `key` can stand in a header: visible ASCII, not empty.
Status check_key(const std::string& key, const std::string& source);

/// 32 hexadecimal digits, not to be guessed.
std::string random_id();
/// The client's id if it is 1 to 128 letters, digits, '.', '_' or '-'; else a random one.
std::string request_id_of(std::string_view client_id);

/// Bytes outside of visible ASCII, and backslashes, as \xNN; cut at 200 bytes.
std::string log_text(std::string_view text);

}  // namespace comet::server
