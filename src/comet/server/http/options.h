// Limits of the HTTP layer; the flags of `comet serve` set them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace comet::server::http {

struct HttpOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 8000;  // 0: any free one
  size_t max_header_bytes = size_t{16} << 10;
  int64_t max_header_fields = 100;
  size_t max_body_bytes = size_t{8} << 20;
  size_t max_buffered_bytes = size_t{256} << 20;     // bodies of all connections together
  double read_time_s = 10;                           // for the header, and again for the body
  double idle_time_s = 60;                           // between the requests of a connection
  double write_time_s = 30;                          // without the client taking a byte
  double ping_time_s = 10;                           // of silence on a stream, then a comment line
  size_t max_send_buffer_bytes = size_t{256} << 10;  // unsent bytes of a stream
  int64_t max_connections = 1024;
};

}  // namespace comet::server::http
