// CompletionEvents: the events of one streamed answer -> times, counts and text of a
// RequestRecord. Caller: the load generator.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace comet::client {

/// One request as the client saw it; times in seconds.
struct RequestRecord {
  double sent_s = 0;           // when it was sent, from the start of the measurement
  double scheduled_s = 0;      // when it should have been
  double ttft_s = 0;           // first content chunk
  double latency_s = 0;        // last content chunk
  std::vector<double> gaps_s;  // between content chunks
  int64_t input_tokens = 0;    // as the server counts them
  int64_t output_tokens = 0;
  std::string error_kind;  // empty: well
  std::string error;
  std::string text;
};

class CompletionEvents {
 public:
  CompletionEvents(RequestRecord& record, double sent_s) : record_(record), sent_s_(sent_s) {}

  /// False: an event that ends the request; the record's error_kind says why.
  bool on_event(std::string_view data, double at_s);
  /// At the stream's end: counts without `usage` are those of the chunks.
  void finish(int64_t prompt_tokens);

 private:
  static constexpr size_t kMaxTextBytes = size_t{1} << 20;

  RequestRecord& record_;
  double sent_s_;
  double last_s_ = 0;
  int64_t num_chunks_ = 0;
  bool has_usage_ = false;
};

}  // namespace comet::client
