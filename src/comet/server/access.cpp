#include "comet/server/access.h"

#include <algorithm>
#include <random>

namespace comet::server {
namespace {

bool equal_in_constant_time(std::string_view given, std::string_view key) {
  size_t difference = given.size() ^ key.size();
  for (size_t i = 0; i < given.size(); ++i) {
    difference |= static_cast<uint8_t>(given[i]) ^ static_cast<uint8_t>(key[i % key.size()]);
  }
  return difference == 0;
}

bool same_ignoring_case(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [&](char x, char y) { return lower(x) == lower(y); });
}

}  // namespace

bool has_valid_key(const http::HttpRequest& request, const std::vector<std::string>& keys) {
  if (keys.empty()) return true;
  constexpr std::string_view kScheme = "Bearer ";
  std::string_view given = request.header("authorization");
  if (given.size() > kScheme.size() &&
      same_ignoring_case(given.substr(0, kScheme.size()), kScheme)) {
    given.remove_prefix(kScheme.size());
  } else {
    given = request.header("x-api-key");
  }
  bool found = false;
  for (const std::string& key : keys) found = equal_in_constant_time(given, key) || found;
  return found;
}

Status check_key(const std::string& key, const std::string& source) {
  constexpr size_t kMaxKeyBytes = 512;
  const bool visible =
      std::all_of(key.begin(), key.end(), [](char c) { return c > ' ' && c <= '~'; });
  if (key.empty() || key.size() > kMaxKeyBytes || !visible) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: a key must be 1 to {} visible ASCII characters without spaces", source,
                      kMaxKeyBytes);
  }
  return {};
}

Result<std::vector<std::string>> parse_key_file(std::string_view text, const std::string& source) {
  std::vector<std::string> keys;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string line(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    if (line.empty() || line.front() == '#') continue;
    if (const Status checked = check_key(line, source); !checked) return checked.error();
    keys.push_back(std::move(line));
  }
  if (keys.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "{}: holds no key; expected one a line", source);
  }
  return keys;
}

std::string random_id() {
  std::random_device device;
  return fmt::format("{:08x}{:08x}{:08x}{:08x}", device(), device(), device(), device());
}

std::string request_id_of(std::string_view client_id) {
  constexpr size_t kMaxIdBytes = 128;
  const auto is_safe = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  if (client_id.empty() || client_id.size() > kMaxIdBytes ||
      !std::all_of(client_id.begin(), client_id.end(), is_safe)) {
    return random_id();
  }
  return std::string(client_id);
}

std::string log_text(std::string_view text) {
  constexpr size_t kMaxBytes = 200;
  std::string out;
  for (const char c : text.substr(0, kMaxBytes)) {
    if (c > ' ' && c <= '~' && c != '\\') {
      out += c;
    } else {
      out += fmt::format("\\x{:02x}", static_cast<uint8_t>(c));
    }
  }
  if (text.size() > kMaxBytes) out += "...";
  return out;
}

}  // namespace comet::server
