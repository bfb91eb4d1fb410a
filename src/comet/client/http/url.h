// Where a server is: http://HOST[:PORT][/PATH]. Callers: the event loop, bench serve, the study.
#pragma once

#include <cstdint>
#include <string>

#include "comet/base/result.h"

namespace comet::client {

struct Url {
  std::string host;  // without the brackets of an IPv6 address
  uint16_t port = 80;
  std::string path;  // what stands before "/v1/…": "" or "/openai"

  /// "127.0.0.1:8000", "[::1]:8000": what the Host field says.
  [[nodiscard]] std::string authority() const;
  [[nodiscard]] std::string text() const;
};

/// A trailing "/" and "/v1" are cut: people give either. The error says what is wrong with `text`.
Result<Url> parse_url(const std::string& text);

}  // namespace comet::client
