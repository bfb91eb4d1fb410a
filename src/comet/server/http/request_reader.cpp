#include "comet/server/http/request_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "comet/base/check.h"

namespace comet::server::http {
namespace {

namespace beast_http = boost::beast::http;
using BeastParser = beast_http::request_parser<beast_http::string_body>;

int status_of(const boost::beast::error_code& error) {
  if (error == beast_http::error::header_limit) return 431;
  if (error == beast_http::error::body_limit) return 413;
  if (error == beast_http::error::bad_version) return 505;
  return 400;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

/// The last chunk is at least "0\r\n\r\n"; Beast asserts that it is not asked about less again.
bool may_be_part_of_last_chunk(std::string_view rest) {
  if (rest.size() >= 5) return false;
  if (rest.starts_with("\r\n")) rest.remove_prefix(2);
  return rest.starts_with('0');
}

}  // namespace

struct RequestReader::Parser {
  BeastParser beast;
};

RequestReader::RequestReader(const HttpOptions& options) : options_(options) { restart(); }
RequestReader::~RequestReader() = default;

void RequestReader::restart() {
  parser_ = std::make_unique<Parser>();
  parser_->beast.eager(true);
  parser_->beast.header_limit(static_cast<uint32_t>(options_.max_header_bytes));
  parser_->beast.body_limit(options_.max_body_bytes);
  state_ = State::kHeader;
  headers_.clear();
  expects_continue_ = false;
}

void RequestReader::fail(int status, std::string message) {
  state_ = State::kFailed;
  error_status_ = status;
  error_message_ = std::move(message);
}

size_t RequestReader::feed(std::string_view bytes) {
  size_t used = 0;
  while (used < bytes.size() && (state_ == State::kHeader || state_ == State::kBody)) {
    const bool in_chunks = state_ == State::kBody && parser_->beast.chunked();
    if (in_chunks && may_be_part_of_last_chunk(bytes.substr(used))) break;
    boost::beast::error_code error;
    const boost::asio::const_buffer rest(bytes.data() + used, bytes.size() - used);
    const size_t taken = parser_->beast.put(rest, error);
    used += taken;
    const bool wants_more = error == beast_http::error::need_more;
    if (error && !wants_more) {
      fail(status_of(error), fmt::format("the HTTP request is not valid: {}", error.message()));
      return used;
    }
    if (state_ == State::kHeader && parser_->beast.is_header_done()) {
      state_ = State::kBody;
      check_header();
    }
    if (state_ == State::kBody && parser_->beast.is_done()) state_ = State::kDone;
    if (wants_more || taken == 0) break;
  }
  // A line that never ends must not outgrow the limit, whatever the parser has looked at: in the
  // header, or as the size of a chunk.
  if (bytes.size() - used > options_.max_header_bytes) {
    if (state_ == State::kHeader) {
      fail(431, fmt::format("the header is larger than {} bytes", options_.max_header_bytes));
    } else if (state_ == State::kBody) {
      fail(400, "the HTTP request is not valid: a chunk's header does not end");
    }
  }
  return used;
}

// What Beast lets pass though two parties could read it differently, and limits of our own.
void RequestReader::check_header() {
  int64_t num_fields = 0;
  int64_t num_hosts = 0;
  int64_t num_lengths = 0;
  const auto& message = parser_->beast.get();
  for (const auto& field : message) {
    ++num_fields;
    const auto name = field.name_string();
    const auto value = field.value();
    // Kept now: trailers behind a chunked body would be added to them.
    headers_.emplace_back(lower({name.data(), name.size()}),
                          std::string(value.data(), value.size()));
    if (field.name() == beast_http::field::host) ++num_hosts;
    if (field.name() == beast_http::field::content_length) {
      ++num_lengths;
      if (num_lengths > 1 || value.find(',') != boost::beast::string_view::npos) {
        return fail(400, "the request has several Content-Length values");
      }
    }
    if (field.name() == beast_http::field::transfer_encoding &&
        lower({value.data(), value.size()}) != "chunked") {
      return fail(501, "only the transfer encoding 'chunked' is supported");
    }
    if (field.name() == beast_http::field::expect &&
        lower({value.data(), value.size()}) == "100-continue") {
      expects_continue_ = message.version() >= 11 && !parser_->beast.is_done();
    }
  }
  if (num_fields > options_.max_header_fields) {
    return fail(431, fmt::format("the header has {} fields; expected at most {}", num_fields,
                                 options_.max_header_fields));
  }
  if (num_hosts > 1 || (num_hosts == 0 && message.version() >= 11)) {
    return fail(400, "the request has no or several Host fields");
  }
  const auto target = message.target();
  if (target.empty() || (target.front() != '/' && target != "*")) {
    return fail(400, "the request target must begin with '/'");
  }
}

size_t RequestReader::body_bytes() const { return parser_->beast.get().body().size(); }

bool RequestReader::take_expects_continue() { return std::exchange(expects_continue_, false); }

HttpRequest RequestReader::take_request() {
  COMET_CHECK(state_ == State::kDone, "no request has been read");
  const bool keep_alive = parser_->beast.keep_alive();
  auto message = parser_->beast.release();
  HttpRequest request;
  request.keep_alive = keep_alive;
  request.is_http11 = message.version() >= 11;
  request.method.assign(message.method_string().data(), message.method_string().size());
  const std::string_view target(message.target().data(), message.target().size());
  request.path = target.substr(0, target.find('?'));
  request.headers = std::move(headers_);
  request.body = std::move(message.body());
  restart();
  return request;
}

}  // namespace comet::server::http
