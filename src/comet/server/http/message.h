// HTTP requests and responses as plain values. Made and read by the http folder's reader and
// writer, by routes and endpoints.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace comet::server::http {

using Header = std::pair<std::string, std::string>;

struct HttpRequest {
  std::string method;           // "GET"
  std::string path;             // begins with '/', without the query; still percent-encoded
  std::vector<Header> headers;  // names in lower case
  std::string body;
  std::string peer;  // "127.0.0.1"
  bool is_http11 = true;
  bool keep_alive = true;

  /// The first of that name (lower case); empty when there is none.
  [[nodiscard]] std::string_view header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<Header> headers;  // values hold no control characters
};

/// "Not Found"; "Unknown" for a code this server never sends.
std::string_view status_text(int status);

/// Status line and headers of a response of known length; the body only where `with_body`.
std::string response_bytes(const HttpResponse& response, bool keep_alive, bool with_body);
/// Status line and headers of a stream of server-sent events.
std::string stream_head_bytes(const std::vector<Header>& headers, bool chunked, bool keep_alive);
/// One chunk of a chunked body; an empty one would end it, so `data` is not empty.
std::string chunk_bytes(std::string_view data);
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";

}  // namespace comet::server::http
