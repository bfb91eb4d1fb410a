#include "comet/client/http/response_reader.h"

#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/none.hpp>

namespace comet::client {
namespace {

namespace beast_http = boost::beast::http;

constexpr uint32_t kMaxHeaderBytes = 64 << 10;
constexpr size_t kMaxHeldBytes = kMaxHeaderBytes + (64 << 10);  // a line that never ends

}  // namespace

struct ResponseReader::Parser {
  beast_http::response_parser<beast_http::string_body> beast;
};

ResponseReader::ResponseReader() : parser_(std::make_unique<Parser>()) {
  parser_->beast.eager(true);
  parser_->beast.header_limit(kMaxHeaderBytes);
  parser_->beast.body_limit(boost::none);  // a stream has no size; callers take and bound it
}

ResponseReader::~ResponseReader() = default;

bool ResponseReader::fail(std::string message) {
  error_ = std::move(message);
  return false;
}

bool ResponseReader::feed(std::string_view bytes) {
  if (!error_.empty()) return false;
  held_ += bytes;
  size_t used = 0;
  while (used < held_.size() && !parser_->beast.is_done()) {
    boost::beast::error_code error;
    const boost::asio::const_buffer rest(held_.data() + used, held_.size() - used);
    const size_t taken = parser_->beast.put(rest, error);
    used += taken;
    const bool wants_more = error == beast_http::error::need_more;
    if (error && !wants_more) return fail(error.message());
    if (wants_more || taken == 0) break;
  }
  held_.erase(0, used);
  if (held_.size() > kMaxHeldBytes) return fail("a line does not end");
  return true;
}

bool ResponseReader::feed_end() {
  if (!error_.empty()) return false;
  if (parser_->beast.is_done()) return true;
  boost::beast::error_code error;
  if (parser_->beast.is_header_done()) parser_->beast.put_eof(error);
  if (error || !parser_->beast.is_done()) return fail("the connection ended too early");
  return true;
}

bool ResponseReader::has_header() const { return parser_->beast.is_header_done(); }
bool ResponseReader::is_done() const { return parser_->beast.is_done(); }
int ResponseReader::status() const { return static_cast<int>(parser_->beast.get().result_int()); }

std::string ResponseReader::content_type() const {
  const auto value = parser_->beast.get()[beast_http::field::content_type];
  std::string text(value.data(), value.size());
  text.resize(std::min(text.find_first_of("; \t"), text.size()));
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

std::string ResponseReader::take_body() {
  std::string body;
  body.swap(parser_->beast.get().body());
  return body;
}

}  // namespace comet::client
