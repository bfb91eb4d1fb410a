// Service: the API behind the HTTP server. Finds the route of a request, checks key and state, runs
// the endpoint, logs and counts the answer. Made by the serve command before the model is loaded;
// it outlives the HTTP server's run() and the engine loop.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comet/base/result.h"
#include "comet/engine/sampling/sampling_params.h"
#include "comet/server/http/exchange.h"
#include "comet/server/metrics/metrics.h"
#include "comet/server/protocol/request/requests.h"
#include "comet/server/worker_pool.h"
#include "comet/text/tokenizer.h"

namespace comet::engine {
class EngineLoop;
}

namespace comet::server {

/// Text of a conversation up to where the assistant speaks.
using ChatRenderer = std::function<Result<std::string>(const std::vector<ChatMessage>& messages)>;

struct ServedModel {
  std::string name;
  std::vector<std::string> aliases;          // other names that requests may use
  int64_t created = 0;                       // seconds since 1970
  std::optional<text::Tokenizer> tokenizer;  // none: prompts are token ids, answers have no text
  std::string tokenizer_info;                // the answer of GET /tokenizer_info, a JSON object
  ChatRenderer render_chat;                  // empty: the model has no chat template
  std::string chat_error;                    // why there is none
  std::vector<int32_t> chat_stop_tokens;     // end a turn, beside the model's own end of text
  engine::SamplingParams defaults;           // where a request is silent
};

struct ServiceOptions {
  RequestLimits limits;
  std::vector<std::string> keys;
  std::string version;
  int num_workers = 2;
  double stall_s = 30;  // without a step while work waits: /health says 503
  bool access_log = true;
  bool vllm_metrics = false;  // every metric under "vllm:" too
  // Log-probabilities of one answer: they are built as one text on the I/O thread.
  int64_t max_answer_logprobs = int64_t{1} << 18;
  int64_t max_queued = 512;  // what the engine loop was made with
};

class Service {
 public:
  explicit Service(ServiceOptions options);
  ~Service();
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  /// The HTTP server's handler: on the I/O thread, does not block, does not throw.
  void handle(const std::shared_ptr<http::Exchange>& exchange);

  /// The model is ready. Once; `loop` outlives every request.
  void set_model(ServedModel model, engine::EngineLoop& loop);
  /// From now on generation is refused with 503.
  void begin_drain() { draining_ = true; }
  /// Waits until no request is being parsed.
  void wait_workers() { workers_.wait_idle(); }
  void set_num_connections(std::function<int64_t()> count) { num_connections_ = std::move(count); }

  // For endpoints.
  [[nodiscard]] bool draining() const { return draining_; }
  /// nullptr while the model loads.
  [[nodiscard]] const ServedModel* model() const { return ready_ ? &model_ : nullptr; }
  [[nodiscard]] engine::EngineLoop& loop() const { return *loop_; }
  [[nodiscard]] const ServiceOptions& options() const { return options_; }
  [[nodiscard]] const RequestLimits& limits() const {
    return ready_ ? ready_limits_ : options_.limits;
  }
  [[nodiscard]] Metrics& metrics() { return metrics_; }
  [[nodiscard]] int64_t num_connections() const {
    return num_connections_ ? num_connections_() : 0;
  }

 private:
  ServiceOptions options_;
  RequestLimits ready_limits_;  // with the vocabulary of the model; written before ready_ is set
  Metrics metrics_;
  ServedModel model_;
  engine::EngineLoop* loop_ = nullptr;
  std::function<int64_t()> num_connections_;
  std::atomic<bool> ready_{false};
  std::atomic<bool> draining_{false};
  WorkerPool workers_;  // last: its tasks use what stands above
};

}  // namespace comet::server
