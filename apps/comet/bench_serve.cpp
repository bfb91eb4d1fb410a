// comet bench serve --url URL: load for a running OpenAI server, and how it bears it.
#include <sys/resource.h>

#include <cstdio>

#include "apps/comet/command.h"
#include "comet/base/log.h"
#include "comet/base/progress.h"
#include "comet/client/load/summary.h"

namespace comet::cli {
namespace {

struct Options {
  std::string url;
  std::string profile;
  int64_t concurrency = 0;
  double rate_per_s = 0;
  std::string arrivals = "poisson";
  double duration_s = 0;
  int64_t input_len = 0;
  int64_t output_len = 0;
  std::string prompts = "ids";
  bool stop_at_eos = false;
  bool detailed = false;
  std::vector<std::string> goodput;
  client::LoadOptions load;
};

/// "ttft:200" → objectives.ttft_ms = 200.
Status parse_goodput(const std::vector<std::string>& texts, client::Objectives& objectives) {
  for (const std::string& text : texts) {
    const size_t colon = std::min(text.find(':'), text.size());
    double value = 0;
    size_t used = 0;
    try {
      value = std::stod(text.substr(std::min(colon + 1, text.size())), &used);
    } catch (const std::exception&) {
      used = 0;
    }
    const std::string name = text.substr(0, colon);
    double* field = name == "ttft"   ? &objectives.ttft_ms
                    : name == "tpot" ? &objectives.tpot_ms
                    : name == "e2el" ? &objectives.e2el_ms
                                     : nullptr;
    if (field == nullptr || used == 0 || colon + 1 + used != text.size() || !(value > 0)) {
      return make_error(ErrorCode::kInvalidArgument,
                        "--goodput '{}': expected ttft:MS, tpot:MS or e2el:MS", text);
    }
    *field = value;
  }
  return {};
}

Result<client::Profile> chosen_profile(const Options& options) {
  client::Profile profile{"custom", "Custom", options.input_len, options.output_len};
  if (!options.profile.empty()) {
    auto found = client::find_profile(options.profile);
    if (!found) return Error{found.error().code, "--profile: " + found.error().message};
    profile = *std::move(found);
    if (options.input_len > 0) profile.input_tokens = options.input_len;
    if (options.output_len > 0) profile.output_tokens = options.output_len;
  }
  if (profile.input_tokens < 1 || profile.output_tokens < 1) {
    return make_error(ErrorCode::kInvalidArgument,
                      "give --profile NAME, or both --input-len and --output-len");
  }
  return profile;
}

Result<client::LoadOptions> load_options(const Globals& globals, const Options& options) {
  client::LoadOptions load = options.load;
  auto url = client::parse_url(options.url);
  if (!url) return Error{url.error().code, "--url: " + url.error().message};
  load.target.url = *std::move(url);
  auto profile = chosen_profile(options);
  if (!profile) return profile.error();
  load.profile = *std::move(profile);
  if ((options.concurrency > 0) == (options.rate_per_s > 0)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "give one of --concurrency N and --rate R (requests a second)");
  }
  if (options.rate_per_s > 0) {
    load.arrivals.kind = options.arrivals == "constant" ? client::Arrivals::Kind::kConstant
                                                        : client::Arrivals::Kind::kPoisson;
    load.arrivals.rate_per_s = options.rate_per_s;
  } else {
    load.arrivals.concurrency = options.concurrency;
  }
  if (options.duration_s <= 0 && load.num_requests <= 0) {
    return make_error(ErrorCode::kInvalidArgument,
                      "give --duration SECONDS, --num-requests N, or both");
  }
  if (load.end_id <= load.first_id) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--vocab-size {}: random token ids are from {} on, so it must be larger",
                      load.end_id, load.first_id);
  }
  load.duration_s = options.duration_s;
  load.ignore_eos = !options.stop_at_eos;
  load.text_prompts = options.prompts == "text";
  load.seed = globals.seed;
  return load;
}

/// Each request in flight holds a socket.
void raise_fd_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

void print_distribution(const char* name, const client::Distribution& d) {
  fmt::print("  {:<22} {:>10.2f} {:>10.2f} {:>10.2f} {:>10.2f}\n", name, d.mean, d.p50, d.p95,
             d.p99);
}

void print_summary(const client::LoadOptions& load, const client::LoadResult& result,
                   const client::LoadSummary& s, const client::Objectives& objectives) {
  fmt::print("{} at {}: {} + {} tokens, {}\n", result.model, load.target.url.text(),
             load.profile.input_tokens, load.profile.output_tokens, load.arrivals.text());
  fmt::print("  {} completed, {} failed in {:.2f} s ({} warm-up requests dropped)\n",
             s.num_completed, s.num_failed, s.duration_s, result.warmup.size());
  for (const auto& [kind, count] : s.errors) fmt::print("    {:<20} {:>6}\n", kind, count);
  fmt::print("  {:<22} {:>10.3f} /s\n", "requests", s.request_per_s);
  if (objectives.any()) fmt::print("  {:<22} {:>10.3f} /s\n", "within objectives", s.good_per_s);
  fmt::print("  {:<22} {:>10.1f} /s   ({} tokens)\n", "output tokens", s.output_tokens_per_s,
             s.num_output_tokens);
  fmt::print("  {:<22} {:>10.1f} /s   ({} prompt tokens)\n", "all tokens", s.total_tokens_per_s,
             s.num_input_tokens);
  fmt::print("  {:<22} {:>10} {:>10} {:>10} {:>10}\n", "ms", "mean", "p50", "p95", "p99");
  print_distribution("time to first token", s.ttft_ms);
  print_distribution("time per output token", s.tpot_ms);
  print_distribution("between tokens", s.itl_ms);
  print_distribution("end to end", s.e2el_ms);
}

Status run_bench_serve(const Globals& globals, const Options& options) {
  client::Objectives objectives;
  if (const Status parsed = parse_goodput(options.goodput, objectives); !parsed) return parsed;
  const auto load = load_options(globals, options);
  if (!load) return load.error();
  raise_fd_limit();
  const int64_t expected =
      load->num_requests > 0
          ? load->num_requests
          : static_cast<int64_t>(load->duration_s * std::max(options.rate_per_s, 1.0));
  std::unique_ptr<Progress> progress;
  const auto result = client::run_load(*load, [&] {
    if (progress == nullptr) {
      progress = std::make_unique<Progress>("serving", expected, "requests", globals.quiet);
    }
    progress->advance(1);
  });
  progress.reset();
  if (!result) return result.error();
  const client::LoadSummary summary = client::summarize(*result, objectives);
  if (prints_text(globals)) print_summary(*load, *result, summary, objectives);
  Json json = client::summary_json(*load, *result, summary, options.detailed);
  json["date"] = utc_now_text();
  const Status written = write_json_result(globals, "bench serve", json);
  if (!written) return written.error();
  if (summary.max_start_lag_ms > 50) {
    log_warning(
        "requests were sent up to {:.0f} ms late: this machine is too busy to load a server",
        summary.max_start_lag_ms);
  }
  if (summary.num_failed > 0) {
    log_warning("{} of {} requests failed; the first: {}", summary.num_failed,
                result->records.size(), summary.first_error);
  }
  if (summary.num_completed == 0) {
    return make_error(
        ErrorCode::kIo, "no request was completed{}{}",
        summary.first_error.empty() ? "" : "; the first error: ", summary.first_error);
  }
  return {};
}

void add_load_flags(CLI::App& command, Options& options) {
  command.add_option("--profile", options.profile,
                     "docstring, code-completion, code-fixing, instruction, chat, rag or "
                     "summarization");
  command.add_option("--input-len", options.input_len, "Prompt tokens, over the profile's")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24));
  command.add_option("--output-len", options.output_len, "Generated tokens, over the profile's")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24));
  command.add_option("--concurrency", options.concurrency, "Requests in flight; 1: synchronous")
      ->check(CLI::Range(int64_t{1}, int64_t{65536}));
  command
      .add_option("--rate", options.rate_per_s, "Requests a second, whatever the server answers")
      ->check(CLI::Range(1e-4, 1e6));
  command.add_option("--arrivals", options.arrivals, "Of a rate")
      ->check(CLI::IsMember({"poisson", "constant"}))
      ->capture_default_str();
  command.add_option("--duration", options.duration_s, "Seconds; what is in flight then ends")
      ->check(CLI::Range(0.01, 1e7));
  command.add_option("--num-requests", options.load.num_requests, "At most so many requests")
      ->check(CLI::Range(int64_t{1}, int64_t{10000000}));
  command
      .add_option("--warmup", options.load.num_warmup,
                  "Requests before the clock starts (default: 1, or the concurrency up to 16)")
      ->check(CLI::Range(int64_t{0}, int64_t{65536}));
  command.add_option("--max-in-flight", options.load.max_in_flight, "Of a rate; beyond: an error")
      ->check(CLI::Range(int64_t{1}, int64_t{65536}))
      ->capture_default_str();
}

void add_request_flags(CLI::App& command, Options& options) {
  client::Target& target = options.load.target;
  command.add_option("--model", target.model, "Model to ask for (default: the first listed)");
  command.add_option("--api-key", target.api_key, "The server's key");
  command.add_flag("--chat", target.chat, "/v1/chat/completions; the template adds tokens");
  command
      .add_option("--prompts", options.prompts,
                  "ids: random token ids; text: random text that the server's /tokenize counts")
      ->check(CLI::IsMember({"ids", "text"}))
      ->capture_default_str();
  command.add_option("--vocab-size", options.load.end_id, "Random token ids are below it")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 24))
      ->capture_default_str();
  command.add_option("--first-id", options.load.first_id, "Random token ids are not below it")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 24))
      ->capture_default_str();
  command.add_flag("--stop-at-eos", options.stop_at_eos, "Answers may end early (no ignore_eos)");
  const CLI::Range seconds(0.05, 1e6);
  command.add_option("--connect-time", target.limits.connect_s, "Seconds to connect")
      ->check(seconds)
      ->capture_default_str();
  command.add_option("--stall-time", target.limits.stall_s, "Seconds without a token: an error")
      ->check(seconds)
      ->capture_default_str();
  command.add_option("--request-time", target.limits.total_s, "Seconds for one answer")
      ->check(seconds)
      ->capture_default_str();
  command.add_option("--goodput", options.goodput,
                     "Objectives in ms, ttft:MS tpot:MS e2el:MS: requests within all are counted");
  command.add_flag("--detailed", options.detailed, "Every request's times and text in --json");
}

}  // namespace

void add_bench_serve(CLI::App& bench, const Globals& globals, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *bench.add_subcommand("serve", "Load for a running OpenAI server");
  command.add_option("--url", options->url, "The server, such as http://127.0.0.1:8000")
      ->required();
  add_load_flags(command, *options);
  add_request_flags(command, *options);
  command.callback([&globals, &action, options] {
    action = [&globals, options] { return run_bench_serve(globals, *options); };
  });
}

}  // namespace comet::cli
