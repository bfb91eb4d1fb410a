#include <gtest/gtest.h>

#include <algorithm>

#include "comet/client/http/response_reader.h"
#include "comet/client/http/sse_parser.h"
#include "comet/client/http/url.h"

namespace comet::client {
namespace {

TEST(ParseUrl, TakesWhatPeopleWrite) {
  const auto plain = parse_url("http://127.0.0.1:8000/v1/").value();
  EXPECT_EQ(plain.host, "127.0.0.1");
  EXPECT_EQ(plain.port, 8000);
  EXPECT_EQ(plain.path, "");
  EXPECT_EQ(plain.text(), "http://127.0.0.1:8000");
  EXPECT_EQ(parse_url("http://host")->port, 80);
  EXPECT_EQ(parse_url("http://host/openai/v1")->path, "/openai");
  const auto v6 = parse_url("http://[::1]:9").value();
  EXPECT_EQ(v6.host, "::1");
  EXPECT_EQ(v6.authority(), "[::1]:9");
}

TEST(ParseUrl, SaysWhatIsWrong) {
  for (const char* text : {"", "127.0.0.1:8000", "ftp://x", "http://", "http://x:0",
                           "http://x:65536", "http://x:8a", "http://[::1", "http://[::1]x",
                           "http://a b", "http://x/?q=1", "http://user@x", "http://x\n"}) {
    const auto url = parse_url(text);
    ASSERT_FALSE(url.ok()) << text;
    EXPECT_NE(url.error().message.find("http://127.0.0.1:8000"), std::string::npos) << text;
  }
  const auto tls = parse_url("https://api.example.com");
  ASSERT_FALSE(tls.ok());
  EXPECT_NE(tls.error().message.find("TLS"), std::string::npos);
}

std::vector<std::string> events_of(std::string_view bytes, size_t step) {
  SseParser parser;
  std::vector<std::string> events;
  for (size_t i = 0; i < bytes.size(); i += step) {
    EXPECT_TRUE(parser.feed(bytes.substr(i, step), [&](std::string_view data) {
      events.emplace_back(data);
      return true;
    }));
  }
  return events;
}

TEST(SseParser, GivesTheSameEventsHoweverTheBytesAreCut) {
  const std::string bytes =
      ": ping\n\n"
      "data: {\"a\": 1}\n\n"
      "data:no blank\r\n\r\n"
      "id: 3\revent: x\rdata: one\rdata: two\r\r"
      "retry: 5\n\n"
      "data\n\n"
      "data: never ended";
  const std::vector<std::string> expected{"{\"a\": 1}", "no blank", "one\ntwo", ""};
  for (size_t step = 1; step <= bytes.size(); ++step) EXPECT_EQ(events_of(bytes, step), expected);
}

TEST(SseParser, StopsWhenToldAndWhenAnEventOutgrowsItsBound) {
  SseParser parser;
  int count = 0;
  EXPECT_FALSE(parser.feed("data: a\n\ndata: b\n\n", [&](std::string_view) {
    ++count;
    return false;
  }));
  EXPECT_EQ(count, 1);
  EXPECT_FALSE(parser.feed("data: c\n\n", [](std::string_view) { return true; }));
  SseParser bounded;
  const std::string piece(size_t{1} << 20, 'x');
  bool fine = true;
  for (int i = 0; i < 6 && fine; ++i) {
    fine = bounded.feed(piece, [](std::string_view) { return true; });
  }
  EXPECT_FALSE(fine);
}

TEST(ResponseReader, ReadsChunksAndLengthsByteByByte) {
  for (const std::string bytes :
       {"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\n"
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 6\r\n\r\nhello!"}) {
    for (size_t step : {size_t{1}, size_t{7}, bytes.size()}) {
      ResponseReader reader;
      std::string body;
      for (size_t i = 0; i < bytes.size(); i += step) {
        ASSERT_TRUE(reader.feed(std::string_view(bytes).substr(i, step)));
        body += reader.take_body();
      }
      EXPECT_TRUE(reader.is_done());
      EXPECT_EQ(reader.status(), 200);
      EXPECT_EQ(reader.content_type(), "text/event-stream");
      EXPECT_EQ(body, "hello!");
    }
  }
}

TEST(ResponseReader, ABodyWithoutALengthEndsWithTheConnection) {
  ResponseReader reader;
  ASSERT_TRUE(reader.feed("HTTP/1.0 503 Busy\r\n\r\nlater"));
  EXPECT_TRUE(reader.has_header());
  EXPECT_FALSE(reader.is_done());
  EXPECT_TRUE(reader.feed_end());
  EXPECT_TRUE(reader.is_done());
  EXPECT_EQ(reader.status(), 503);
  EXPECT_EQ(reader.take_body(), "later");
}

TEST(ResponseReader, RefusesWhatIsNoResponse) {
  EXPECT_FALSE(ResponseReader().feed("SSH-2.0-OpenSSH_9.2\r\n\r\n"));
  EXPECT_FALSE(ResponseReader().feed_end());
  ResponseReader cut;
  ASSERT_TRUE(cut.feed("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal"));
  EXPECT_FALSE(cut.feed_end());
  ResponseReader endless;
  bool fine = true;
  const std::string piece(16384, 'x');
  for (int i = 0; i < 20 && fine; ++i) fine = endless.feed(piece);
  EXPECT_FALSE(fine);
}

}  // namespace
}  // namespace comet::client
