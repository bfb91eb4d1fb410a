// Bytes of a connection → HTTP requests → what the endpoints are asked. The first byte says in
// which pieces the bytes arrive; the same bytes are also read as a body by every parser.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "comet/base/check.h"
#include "comet/server/access.h"
#include "comet/server/http/request_reader.h"
#include "comet/server/protocol/request/requests.h"
#include "comet/server/routes.h"

namespace {

namespace server = comet::server;

void parse_body(std::string_view body) {
  server::RequestLimits limits;
  limits.vocab_size = 1000;
  comet::Json json;
  if (server::parse_json_body(body, limits.json, json)) return;
  server::CompletionRequest completion;
  server::ChatRequest chat;
  server::TokenizeRequest tokenize;
  server::DetokenizeRequest detokenize;
  if (!server::parse_completion(json, limits, completion)) {
    COMET_CHECK(!completion.prompts.empty() && completion.params.n <= limits.max_n);
  }
  if (!server::parse_chat(json, limits, chat)) COMET_CHECK(!chat.messages.empty());
  (void)server::parse_tokenize(json, limits, tokenize);
  (void)server::parse_detokenize(json, limits, detokenize);
}

void read_connection(std::string_view bytes, size_t step) {
  server::http::HttpOptions options;
  options.max_header_bytes = 1024;
  options.max_body_bytes = 4096;
  server::http::RequestReader reader(options);
  std::string input;
  for (size_t at = 0; at < bytes.size(); at += step) {
    input += bytes.substr(at, step);
    for (;;) {
      const size_t used = reader.feed(input);
      COMET_CHECK(used <= input.size());
      input.erase(0, used);
      if (reader.state() == server::http::RequestReader::State::kFailed) {
        COMET_CHECK(reader.error_status() >= 400);
        return;
      }
      if (reader.state() != server::http::RequestReader::State::kDone) break;
      const server::http::HttpRequest request = reader.take_request();
      COMET_CHECK(request.body.size() <= options.max_body_bytes);
      (void)server::find_route(request.method, request.path);
      (void)server::has_valid_key(request, {"key"});
      (void)server::request_id_of(request.header("x-request-id"));
      (void)server::log_text(request.path);
      parse_body(request.body);
    }
  }
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  read_connection(bytes, size_t{data[0]} + 1);
  parse_body(bytes);
  return 0;
}
