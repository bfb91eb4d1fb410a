// comet serve MODEL: the HTTP server. Listens at once (/health says 503), loads, serves until
// SIGTERM or SIGINT, ends what is in flight, exits 0; a second signal ends it at once.
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "apps/comet/command.h"
#include "apps/comet/serve_model.h"
#include "apps/comet/termination.h"
#include "comet/base/clock.h"
#include "comet/base/log.h"
#include "comet/io/file.h"
#include "comet/server/access.h"
#include "comet/server/http/http_server.h"
#include "comet/server/protocol/answer/tokenizer_info.h"

namespace comet::cli {
namespace {

constexpr size_t kMaxKeyFileBytes = size_t{1} << 20;
constexpr size_t kMaxConfigBytes = size_t{64} << 20;
constexpr double kClosingSeconds = 2;  // for the last bytes and the clients' closing

struct Options {
  ServeModelOptions model;
  server::http::HttpOptions http;
  server::ServiceOptions service;
  std::vector<std::string> api_keys;
  std::string api_key_file;
  std::string tls_cert;
  std::string tls_key;
  double drain_time_s = 30;
};

Result<std::vector<std::string>> read_keys(const Options& options) {
  std::vector<std::string> keys = options.api_keys;
  for (const std::string& key : keys) {
    if (const Status checked = server::check_key(key, "--api-key"); !checked) {
      return checked.error();
    }
  }
  if (options.api_key_file.empty()) return keys;
  const auto text = io::read_file(options.api_key_file, kMaxKeyFileBytes);
  if (!text) return text.error();
  auto more = server::parse_key_file(*text, options.api_key_file);
  if (!more) return more.error();
  keys.insert(keys.end(), more->begin(), more->end());
  return keys;
}

/// For GET /tokenizer_info; a file that cannot be read is no reason not to serve.
std::string tokenizer_info(const ServeModelOptions& options) {
  const std::string& folder =
      options.tokenizer_directory.empty() ? options.directory : options.tokenizer_directory;
  const std::string path = folder + "/tokenizer_config.json";
  const auto config = io::read_file(path, kMaxConfigBytes);
  const auto text = server::tokenizer_info_text(config ? *config : "", path);
  if (!text) log_warning("{}", text.error().message);
  return text ? *text : "{}";
}

/// As many connections as asked need as many file descriptors; returns how many there may be.
int64_t raise_fd_limit(int64_t max_connections) {
  constexpr int64_t kOwnFds = 64;  // model files, logs, epoll
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return max_connections;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  const auto available = static_cast<int64_t>(std::min<rlim_t>(limit.rlim_max, 1 << 20)) - kOwnFds;
  if (available >= max_connections) return max_connections;
  log_warning("--max-connections {}: the system allows {}", max_connections, available);
  return std::max<int64_t>(1, available);
}

std::string url_of(const Options& options, uint16_t port) {
  const bool is_v6 = options.http.host.find(':') != std::string::npos;
  const std::string host = is_v6 ? "[" + options.http.host + "]" : options.http.host;
  return fmt::format("http://{}:{}", host, port);
}

void announce(const Globals& globals, const Options& options, const RunningModel& running,
              const std::string& url) {
  if (!prints_text(globals)) return;
  const std::string header = options.service.keys.empty() ? "" : " -H 'Authorization: Bearer KEY'";
  const bool chat = static_cast<bool>(running.served.render_chat);
  const std::string body =
      chat ? R"("messages": [{"role": "user", "content": "Hello"}], "max_tokens": 32)"
           : R"("prompt": "Hello", "max_tokens": 32)";
  fmt::print("Serving {} at {} (context {} tokens, {} sequences at once)\n", running.served.name,
             url, running.loop->max_model_len(), running.loop->max_seqs());
  fmt::print("Try:  curl {}/v1/{}{} -H 'Content-Type: application/json' -d '{{{}}}'\n", url,
             chat ? "chat/completions" : "completions", header, body);
  std::fflush(stdout);
}

/// From the first signal on: nothing more comes in, what runs ends or is ended.
void drain(const Options& options, server::Service& service, server::http::HttpServer& http,
           engine::EngineLoop& loop) {
  log_info("stopping: waiting for {} connections", http.num_connections());
  service.begin_drain();
  http.stop_accepting();
  service.wait_workers();
  const auto limit = std::chrono::milliseconds(static_cast<int64_t>(options.drain_time_s * 1e3));
  const int64_t num_cancelled = loop.drain(limit);
  if (num_cancelled > 0) {
    log_warning("--drain-time {}: {} sequences were cancelled", options.drain_time_s,
                num_cancelled);
  }
}

/// Runs the I/O thread while it lives.
class IoThread {
 public:
  IoThread(server::http::HttpServer& http, server::Service& service)
      : http_(http), service_(service), thread_([&http] { http.run(); }) {}
  IoThread(const IoThread&) = delete;
  IoThread& operator=(const IoThread&) = delete;
  ~IoThread() {
    http_.stop(kClosingSeconds);
    thread_.join();
    service_.wait_workers();  // they hold on to connections
  }

 private:
  server::http::HttpServer& http_;
  server::Service& service_;
  std::thread thread_;
};

Status run_serve(const Globals& globals, Options options) {
  const Stopwatch since_start;
  if (!options.tls_cert.empty() || !options.tls_key.empty()) {
    return make_error(ErrorCode::kUnsupported,
                      "--tls-cert, --tls-key: this build speaks no TLS yet; put a reverse proxy in "
                      "front (docs/server.md)");
  }
  auto keys = read_keys(options);
  if (!keys) return keys.error();
  options.service.keys = *std::move(keys);
  options.service.max_queued = options.model.max_queued;
  options.http.max_connections = raise_fd_limit(options.http.max_connections);

  Termination termination;  // before any thread: they inherit the blocked signals
  server::Service service(options.service);
  auto http = server::http::HttpServer::listen(
      options.http, [&service](const std::shared_ptr<server::http::Exchange>& exchange) {
        service.handle(exchange);
      });
  if (!http) return http.error();
  service.set_num_connections([&http] { return (*http)->num_connections(); });
  const std::string url = url_of(options, (*http)->port());
  std::unique_ptr<RunningModel> running;  // before the thread: it outlives every request
  const IoThread io_thread(**http, service);
  log_info("listening on {}", url);
  auto started = start_model(globals, options.model);
  if (!started) return started.error();
  running = *std::move(started);
  running->served.tokenizer_info = tokenizer_info(options.model);
  service.set_model(running->served, *running->loop);
  termination.begin_graceful();
  log_info("ready after {:.2f} s", since_start.seconds());
  announce(globals, options, *running, url);
  const Status written = write_json_result(globals, "serve",
                                           {{"url", url},
                                            {"port", (*http)->port()},
                                            {"model", running->served.name},
                                            {"max_model_len", running->loop->max_model_len()},
                                            {"ready_s", since_start.seconds()}});
  if (!written) return written.error();
  if (globals.json == "-") std::fflush(stdout);
  termination.wait();
  drain(options, service, **http, *running->loop);
  return {};
}

void add_model_flags(CLI::App& command, ServeModelOptions& model) {
  command.add_option("--served-model-name", model.served_names,
                     "Names that requests use (default: the folder's)");
  command.add_option("--max-seqs", model.max_seqs, "Sequences in one step")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command
      .add_option("--max-batch-tokens", model.max_batch_tokens,
                  "Tokens in one step (default: 512; on a GPU 8192)")
      ->check(CLI::Range(1, 1 << 20));
  command.add_option("--max-model-len", model.max_model_len,
                     "Longest prompt and answer; 0: what fits");
  command.add_option("--queue", model.max_queued, "Sequences that may wait; beyond: 429")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  command.add_option("--kv", model.kv, "Cache format: kv16, kv8 or kv4");
  command.add_option("--kv-memory", model.kv_memory, "Memory for the cache")->capture_default_str();
  command.add_option("--tokenizer", model.tokenizer_directory,
                     "Folder of a synthetic model's tokenizer");
  add_synthetic_flags(command, model.synthetic);
}

void add_http_flags(CLI::App& command, server::http::HttpOptions& http) {
  command.add_option("--host", http.host, "IP address to listen on")->capture_default_str();
  command.add_option("--port", http.port, "0: any free one, printed")->capture_default_str();
  command.add_option("--max-header-bytes", http.max_header_bytes, "Of a request")
      ->check(CLI::Range(1024, 1 << 20))
      ->capture_default_str();
  command.add_option("--max-header-fields", http.max_header_fields, "Of a request")
      ->check(CLI::Range(4, 10000))
      ->capture_default_str();
  command.add_option("--max-body-bytes", http.max_body_bytes, "Of a request")
      ->check(CLI::Range(int64_t{1024}, int64_t{1} << 30))
      ->capture_default_str();
  const CLI::Range seconds(0.05, 86400.0);
  command.add_option("--read-time", http.read_time_s, "Seconds for a header, and for a body")
      ->check(seconds)
      ->capture_default_str();
  command.add_option("--idle-time", http.idle_time_s, "Seconds between requests of a connection")
      ->check(seconds)
      ->capture_default_str();
  command.add_option("--write-time", http.write_time_s, "Seconds without the client reading")
      ->check(seconds)
      ->capture_default_str();
  command
      .add_option("--send-buffer", http.max_send_buffer_bytes,
                  "Unread bytes of a stream before it is cancelled")
      ->check(CLI::Range(int64_t{1024}, int64_t{1} << 30))
      ->capture_default_str();
  command
      .add_option("--max-buffered-bytes", http.max_buffered_bytes,
                  "Bodies of all connections together; beyond: 503")
      ->check(CLI::Range(int64_t{1} << 20, int64_t{1} << 40))
      ->capture_default_str();
  command.add_option("--max-connections", http.max_connections, "Beyond: 503")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
}

void add_request_flags(CLI::App& command, Options& options) {
  server::RequestLimits& limits = options.service.limits;
  command.add_option("--max-json-depth", limits.json.max_depth, "Levels of a body")
      ->check(CLI::Range(4, 256))
      ->capture_default_str();
  command.add_option("--max-n", limits.max_n, "Choices for a prompt")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command.add_option("--max-top-logprobs", limits.max_top_logprobs, "Alternatives for a token")
      ->check(CLI::Range(int64_t{0}, engine::kMaxLogprobs))
      ->capture_default_str();
  command.add_option("--max-stop", limits.max_stop, "Stop texts")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command.add_option("--max-logit-bias", limits.max_logit_bias, "Entries")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  command
      .add_option("--max-answer-logprobs", options.service.max_answer_logprobs,
                  "Log-probabilities of an answer that is no stream")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 30))
      ->capture_default_str();
  command.add_option("--api-key", options.api_keys, "Key that requests must carry (repeatable)")
      ->allow_extra_args(false);
  command.add_option("--api-key-file", options.api_key_file, "File of keys, one a line");
  command.add_option("--tls-cert", options.tls_cert, "Not yet");
  command.add_option("--tls-key", options.tls_key, "Not yet");
  command
      .add_option("--drain-time", options.drain_time_s,
                  "Seconds that running requests get after SIGTERM")
      ->check(CLI::Range(0.0, 86400.0))
      ->capture_default_str();
  command
      .add_option("--stall-time", options.service.stall_s,
                  "Seconds without a step before /health says 503")
      ->check(CLI::Range(0.1, 86400.0))
      ->capture_default_str();
  command.add_flag("!--no-access-log", options.service.access_log, "No line for each request");
  command.add_flag("--vllm-metrics", options.service.vllm_metrics, "Every metric under vllm: too");
}

}  // namespace

void add_serve(CLI::App& app, const Globals& globals, Action& action) {
  auto options = std::make_shared<Options>();
  options->service.version = version_text();
  CLI::App& command = *app.add_subcommand("serve", "Serve a model over HTTP (OpenAI's API)");
  auto* model = command.add_option("MODEL", options->model.directory, "Model folder");
  add_model_flags(command, options->model);
  add_http_flags(command, options->http);
  add_request_flags(command, *options);
  command.callback([&globals, &action, options, model, &command] {
    if (model->count() + command.get_option("--synthetic")->count() != 1) {
      throw CLI::ValidationError("serve", "give a MODEL folder or --synthetic NAME");
    }
    action = [&globals, options] { return run_serve(globals, *options); };
  });
}

}  // namespace comet::cli
