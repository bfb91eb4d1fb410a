#include "comet/client/http/url.h"

#include <charconv>

namespace comet::client {
namespace {

constexpr size_t kMaxUrlBytes = 2048;

Error bad_url(const std::string& text, std::string_view what) {
  return make_error(ErrorCode::kInvalidArgument,
                    "URL '{}': {}; expected one such as http://127.0.0.1:8000", text.substr(0, 200),
                    what);
}

bool has_control_or_space(const std::string& text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7F) return true;
  }
  return false;
}

}  // namespace

std::string Url::authority() const {
  const std::string name = host.find(':') != std::string::npos ? "[" + host + "]" : host;
  return port == 80 ? name : fmt::format("{}:{}", name, port);
}

std::string Url::text() const { return "http://" + authority() + path; }

Result<Url> parse_url(const std::string& text) {
  constexpr std::string_view kScheme = "http://";
  if (text.starts_with("https://")) {
    return make_error(
        ErrorCode::kUnsupported,
        "URL '{}': this build speaks no TLS; give a plain http:// address (a proxy on "
        "this machine can add TLS)",
        text.substr(0, 200));
  }
  if (!text.starts_with(kScheme)) return bad_url(text, "it does not begin with http://");
  if (text.size() > kMaxUrlBytes || has_control_or_space(text)) {
    return bad_url(text, "it is too long, or holds blanks");
  }
  std::string rest = text.substr(kScheme.size());
  Url url;
  const size_t slash = rest.find('/');
  if (slash != std::string::npos) {
    url.path = rest.substr(slash);
    rest.resize(slash);
  }
  if (url.path.find_first_of("?#") != std::string::npos) return bad_url(text, "it has a query");
  while (url.path.ends_with('/')) url.path.pop_back();
  if (url.path.ends_with("/v1")) url.path.resize(url.path.size() - 3);
  std::string port;
  if (rest.starts_with('[')) {
    const size_t end = rest.find(']');
    if (end == std::string::npos) return bad_url(text, "'[' has no ']'");
    url.host = rest.substr(1, end - 1);
    port = rest.substr(end + 1);
    if (!port.empty() && port[0] != ':') return bad_url(text, "behind ']' stands no port");
  } else {
    const size_t colon = std::min(rest.find(':'), rest.size());
    url.host = rest.substr(0, colon);
    port = rest.substr(colon);
  }
  if (url.host.empty() || url.host.find('@') != std::string::npos) {
    return bad_url(text, "it has no host name");
  }
  if (port.empty()) return url;
  int value = 0;
  const auto [end, error] = std::from_chars(port.data() + 1, port.data() + port.size(), value);
  if (error != std::errc() || end != port.data() + port.size() || value < 1 || value > 65535) {
    return bad_url(text, "the port is no number from 1 to 65535");
  }
  url.port = static_cast<uint16_t>(value);
  return url;
}

}  // namespace comet::client
