#include "comet/server/http/request_reader.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace comet::server::http {
namespace {

using std::string_literals::operator""s;

const std::string kGet = "GET /health?x=1 HTTP/1.1\r\nHost: a\r\n\r\n";

struct Outcome {
  std::vector<HttpRequest> requests;
  int status = 0;  // of the error that ended the reading
};

/// Feeds `bytes` in pieces of `step`, as a socket would.
Outcome read_all(const std::string& bytes, size_t step, const HttpOptions& options = {}) {
  RequestReader reader(options);
  Outcome out;
  std::string input;
  for (size_t at = 0; at < bytes.size(); at += step) {
    input += bytes.substr(at, step);
    for (;;) {
      const size_t used = reader.feed(input);
      input.erase(0, used);
      if (reader.state() == RequestReader::State::kFailed) {
        out.status = reader.error_status();
        return out;
      }
      if (reader.state() != RequestReader::State::kDone) break;
      out.requests.push_back(reader.take_request());
    }
  }
  return out;
}

int status_of(const std::string& bytes, const HttpOptions& options = {}) {
  const int whole = read_all(bytes, bytes.size(), options).status;
  EXPECT_EQ(read_all(bytes, 1, options).status, whole) << bytes.substr(0, 200);
  return whole;
}

TEST(RequestReader, ReadsPipelinedRequestsInAnyPieces) {
  const std::string bytes =
      kGet + "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello" +
      "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"
      "3\r\nabc\r\n2;e=1\r\nde\r\n0\r\n\r\n" +
      "GET / HTTP/1.0\r\nX-A:  b \r\n\r\n";
  for (const size_t step : {size_t{1}, size_t{7}, bytes.size()}) {
    const Outcome out = read_all(bytes, step);
    ASSERT_EQ(out.status, 0);
    ASSERT_EQ(out.requests.size(), 4);
    EXPECT_EQ(out.requests[0].path, "/health");
    EXPECT_EQ(out.requests[1].body, "hello");
    EXPECT_EQ(out.requests[2].body, "abcde");
    EXPECT_EQ(out.requests[3].header("x-a"), "b");
    EXPECT_TRUE(out.requests[0].keep_alive && !out.requests[3].keep_alive);
  }
}

TEST(RequestReader, ReadsABodyOfNoChunksInAnyPieces) {
  const std::string bytes =
      "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n" + kGet;
  for (size_t step = 1; step <= bytes.size(); ++step) {
    const Outcome out = read_all(bytes, step);
    ASSERT_EQ(out.status, 0) << step;
    ASSERT_EQ(out.requests.size(), 2) << step;
    EXPECT_EQ(out.requests[0].body, "");
  }
}

TEST(RequestReader, RefusesWhatTwoReadersCouldReadDifferently) {
  const std::string post = "POST / HTTP/1.1\r\nHost: a\r\n";
  for (const char* fields :
       {"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "Content-Length: 1\r\nContent-Length: 1\r\n\r\na", "Content-Length: 1, 1\r\n\r\na",
        "Content-Length: -1\r\n\r\n", "Content-Length: +1\r\n\r\na",
        "Content-Length: 99999999999999999999\r\n\r\n", "Content-Length: 0x1\r\n\r\na",
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n-2\r\n",
        "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
        "Transfer-Encoding: chunked\r\n\r\nzz\r\n", "X: a\nb\r\n\r\n", "X : a\r\n\r\n",
        "Host: b\r\n\r\n"}) {
    const int status = status_of(post + fields);
    EXPECT_EQ(status, 400) << fields;
  }
  EXPECT_EQ(status_of(post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), 501);
  EXPECT_EQ(status_of(post + "Transfer-Encoding: identity\r\n\r\n"), 501);
  EXPECT_EQ(status_of(post + "X: a\0b\r\n\r\n"s), 400);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\n\r\n"), 400);  // no Host
  EXPECT_EQ(status_of("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
  EXPECT_EQ(status_of("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), 505);
  EXPECT_EQ(status_of("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n"s), 400);  // TLS
}

TEST(RequestReader, BoundsHeaderAndBody) {
  HttpOptions options;
  options.max_body_bytes = 10;
  const std::string get = "GET / HTTP/1.1\r\nHost: a\r\n";
  EXPECT_EQ(status_of(get + "X: " + std::string(16 << 10, 'a') + "\r\n\r\n"), 431);
  EXPECT_EQ(status_of("GET /" + std::string(20 << 10, 'a') + " HTTP/1.1\r\n\r\n"), 431);
  std::string many;
  for (int i = 0; i < 100; ++i) many += fmt::format("X{}: a\r\n", i);
  EXPECT_EQ(status_of(get + many + "\r\n"), 431);
  EXPECT_EQ(status_of(get + "Content-Length: 11\r\n\r\n", options), 413);
  EXPECT_EQ(
      status_of(get + "Transfer-Encoding: chunked\r\n\r\n6\r\naaaaaa\r\n6\r\naaaaaa\r\n", options),
      413);
  EXPECT_EQ(status_of(get + "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n", options),
            413);
}

TEST(RequestReader, TrailersDoNotBecomeHeaders) {
  const Outcome out = read_all(
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Late: 1\r\n\r\n", 5);
  ASSERT_EQ(out.requests.size(), 1);
  EXPECT_EQ(out.requests[0].header("host"), "a");
  EXPECT_EQ(out.requests[0].header("x-late"), "");
}

TEST(RequestReader, BoundsTheHeaderOfAChunk) {
  const std::string post = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  EXPECT_EQ(read_all(post + std::string(40000, '1'), 1000).status, 400);
  EXPECT_EQ(read_all(post + "1;" + std::string(40000, 'x'), 1000).status, 400);
}

TEST(RequestReader, SaysOnceThatTheClientWaitsForContinue) {
  const HttpOptions options;
  RequestReader reader(options);
  const std::string header =
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
  EXPECT_EQ(reader.feed(header), header.size());
  EXPECT_TRUE(reader.take_expects_continue());
  EXPECT_FALSE(reader.take_expects_continue());
  EXPECT_EQ(reader.feed("ab"), 2);
  EXPECT_EQ(reader.take_request().body, "ab");
}

}  // namespace
}  // namespace comet::server::http
