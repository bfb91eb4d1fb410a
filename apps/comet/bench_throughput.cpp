// comet bench throughput: offline engine throughput, all requests at t = 0, greedy, EOS ignored.
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>

#include "apps/comet/command.h"
#include "bench/gpu_timer.h"
#include "bench/roof.h"
#include "comet/base/clock.h"
#include "comet/base/progress.h"
#include "comet/base/rng.h"
#include "comet/engine/engine.h"

namespace comet::cli {
namespace {

struct Options {
  std::string model;
  SyntheticFlags synthetic;
  std::string kv;
  std::string kv_memory = "auto";
  int64_t num_requests = 1;
  int64_t input_len = 128;
  int64_t output_len = 64;
  int64_t max_batch_tokens = 0;
};

constexpr int64_t kWarmUpTokens = 8;

struct Timeline {
  double first_s = 0;
  double last_s = 0;
};

Json percentiles(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double q) {
    return values.empty() ? 0.0 : values[std::lround(q * static_cast<double>(values.size() - 1))];
  };
  return {{"p50", at(0.5)}, {"p99", at(0.99)}};
}

/// Of the process on a CPU; on a GPU what is in use there at the end, which only grew.
int64_t peak_memory_bytes(const Context& ctx) {
  if (ctx.cuda != nullptr) return ctx.caps.gpu_memory_bytes - free_gpu_bytes();
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

struct RunTimes {
  std::vector<Timeline> timelines;
  bench::GpuState gpu;           // when half of the tokens were there
  double decode_host_share = 0;  // of steps that only decode
};

Result<RunTimes> run_requests(Context& ctx, engine::Engine& engine, const Globals& globals,
                              const Options& options, int64_t vocab_size) {
  const Stopwatch clock;
  const engine::EngineStats before = engine.stats();
  RunTimes times;
  std::vector<Timeline>& timelines = times.timelines;
  timelines.resize(options.num_requests);
  int64_t tokens_to_half = options.num_requests * options.output_len / 2;
  Progress progress("throughput", options.num_requests * options.output_len, "tokens",
                    globals.quiet);
  for (int64_t i = 0; i < options.num_requests; ++i) {
    engine::Request request;
    request.max_tokens = options.output_len;
    Rng rng(globals.seed, static_cast<uint64_t>(i));
    for (int64_t j = 0; j < options.input_len; ++j) {
      request.prompt.push_back(static_cast<int32_t>(rng.next_below(vocab_size)));
    }
    request.on_event = [&, i](const engine::TokenEvent&) {
      timelines[i].last_s = clock.seconds();
      if (timelines[i].first_s == 0) timelines[i].first_s = timelines[i].last_s;
      progress.advance(1);
      if (--tokens_to_half == 0 && ctx.cuda != nullptr) times.gpu = bench::read_gpu_state(ctx);
      return true;
    };
    auto id = engine.submit(std::move(request));
    if (!id) return id.error();
  }
  while (engine.step()) {}
  const engine::EngineStats after = engine.stats();
  const double decode_s = after.decode_s - before.decode_s;
  if (decode_s > 0) {
    times.decode_host_share = (after.decode_host_s - before.decode_host_s) / decode_s;
  }
  return times;
}

Json throughput_result(Context& ctx, const Options& options, const models::LlamaModel& model,
                       const RunTimes& times, double gpu_copy_gb_per_s) {
  std::vector<double> ttft_ms;
  std::vector<double> tpot_ms;
  double end_s = 0;
  for (const Timeline& t : times.timelines) {
    ttft_ms.push_back(t.first_s * 1e3);
    const auto gaps = static_cast<double>(std::max<int64_t>(options.output_len - 1, 1));
    tpot_ms.push_back((t.last_s - t.first_s) * 1e3 / gaps);
    end_s = std::max(end_s, t.last_s);
  }
  const bool on_gpu = ctx.cuda != nullptr;
  const int64_t peak_bytes = peak_memory_bytes(ctx);
  const double read_gb_per_s = on_gpu ? gpu_copy_gb_per_s : bench::measure_read_gb_per_s(ctx);
  const auto output_tokens = static_cast<double>(options.num_requests * options.output_len);
  const auto input_tokens = static_cast<double>(options.num_requests * options.input_len);
  const Json tpot = percentiles(tpot_ms);
  const int64_t bytes_per_step = model.bytes_read_per_step();
  // One stream: every step reads all weights once, so its rate over the roof is the share reached.
  // A run of one output token has no decode step.
  const bool decodes = options.output_len > 1;
  const auto tpot_p50_ms = tpot["p50"].get<double>();
  const double weights_gb_per_s =
      decodes ? static_cast<double>(bytes_per_step) / 1e6 / tpot_p50_ms : 0.0;
  const FormatTraits traits = format_traits(model);
  Json result = {
      {"model", options.synthetic.name.empty() ? options.model : options.synthetic.name},
      {"format", model.format().weights->name},
      {"kv", model.format().kv->name},
      {"act_scale", traits.act_scale},
      {"w4", traits.w4},
      {"int8_share", traits.w4.empty() ? Json() : Json(1.0 - traits.int4_activation_share)},
      {"lm_head", model.format().lm_head->name == "dense" ? "bf16" : "int8"},
      {"prefix_cache", false},
      {"cpu_isa", cpu_isa_name(ctx.caps.cpu_isa)},
      {"num_threads", ctx.caps.num_threads},
      {"num_requests", options.num_requests},
      {"input_len", options.input_len},
      {"output_len", options.output_len},
      {"output_tokens_per_s", output_tokens / end_s},
      {"total_tokens_per_s", (output_tokens + input_tokens) / end_s},
      {"decode_tokens_per_s_per_stream", decodes ? 1e3 / tpot_p50_ms : 0.0},
      {"prefill_tokens_per_s", input_tokens / (percentiles(ttft_ms)["p99"].get<double>() / 1e3)},
      {"ttft_ms", percentiles(ttft_ms)},
      {"tpot_ms", tpot},
      {"weight_bytes_read_per_token", bytes_per_step},
      {"weights_read_gb_per_s", weights_gb_per_s},
      {"read_gb_per_s", read_gb_per_s},
      {"read_share", weights_gb_per_s / read_gb_per_s},
      {"decode_host_share", times.decode_host_share},
      {"peak_memory_bytes", peak_bytes}};
  if (on_gpu) {
    result["gpu"] = ctx.caps.gpu_name;
    result.update(bench::state_json(times.gpu));
  }
  return result;
}

void print_result(const Json& result) {
  const std::string device =
      result.contains("gpu") ? result["gpu"].get<std::string>()
                             : fmt::format("{}, {} threads", result["cpu_isa"].get<std::string>(),
                                           result["num_threads"].get<int>());
  fmt::print("{} {} {} ({}): {} x {}/{}\n", result["model"].get<std::string>(),
             result["format"].get<std::string>(), result["kv"].get<std::string>(), device,
             result["num_requests"].get<int64_t>(), result["input_len"].get<int64_t>(),
             result["output_len"].get<int64_t>());
  fmt::print("  {:.2f} output tokens/s; TTFT p50 {:.1f} ms, TPOT p50 {:.2f} ms\n",
             result["output_tokens_per_s"].get<double>(), result["ttft_ms"]["p50"].get<double>(),
             result["tpot_ms"]["p50"].get<double>());
  if (result["output_len"].get<int64_t>() == 1) return;  // no decode step
  fmt::print(
      "  a decode step reads {} of weights: {:.1f} GB/s of {:.1f} GB/s measured ({:.0f} %); "
      "the host takes {:.1f} % of it\n",
      bytes_text(result["weight_bytes_read_per_token"].get<int64_t>()),
      result["weights_read_gb_per_s"].get<double>(), result["read_gb_per_s"].get<double>(),
      100 * result["read_share"].get<double>(), 100 * result["decode_host_share"].get<double>());
}

Status run_throughput(const Globals& globals, const Options& options) {
  auto runtime = make_runtime(globals);
  if (!runtime) return runtime.error();
  Context& ctx = (*runtime)->context();
  // Before model and cache take the memory.
  const double gpu_copy_gb_per_s =
      ctx.cuda != nullptr ? bench::measure_gpu_copy_gb_per_s(ctx) : 0.0;
  std::unique_ptr<models::LlamaModel> model;
  std::optional<io::Checkpoint> checkpoint;  // keeps the maps alive
  if (!options.synthetic.name.empty()) {
    auto made = make_synthetic(ctx, globals, options.synthetic, options.kv);
    if (!made) return made.error();
    model = *std::move(made);
  } else {
    auto opened = io::Checkpoint::open(options.model);
    if (!opened) return opened.error();
    checkpoint = *std::move(opened);
    auto loaded = models::load_model(ctx, *checkpoint, options.kv);
    if (!loaded) return loaded.error();
    model = *std::move(loaded);
  }
  auto kv_memory = parse_bytes("--kv-memory", options.kv_memory);
  if (!kv_memory) return kv_memory.error();
  engine::EngineOptions engine_options;
  engine_options.limits.max_seqs = options.num_requests;
  engine_options.limits.max_batch_tokens = options.max_batch_tokens;
  engine_options.kv_memory_bytes = *kv_memory;
  if (options.input_len + options.output_len <= model->config().max_position_embeddings) {
    engine_options.max_model_len = options.input_len + options.output_len;
  } else {
    return make_error(ErrorCode::kInvalidArgument,
                      "--input-len {} + --output-len {}: the model's context is {} tokens",
                      options.input_len, options.output_len,
                      model->config().max_position_embeddings);
  }
  auto engine = engine::Engine::create(ctx, *model, engine_options);
  if (!engine) return engine.error();
  if (ctx.cuda != nullptr) {  // libraries open, products are planned, the arena grows
    Options warm_up = options;
    warm_up.num_requests = 1;
    warm_up.output_len = std::min<int64_t>(options.output_len, kWarmUpTokens);
    auto warmed = run_requests(ctx, **engine, globals, warm_up, model->config().vocab_size);
    if (!warmed) return warmed.error();
  }
  auto times = run_requests(ctx, **engine, globals, options, model->config().vocab_size);
  if (!times) return times.error();

  const Json result = throughput_result(ctx, options, *model, *times, gpu_copy_gb_per_s);
  if (prints_text(globals)) print_result(result);
  return write_json_result(globals, "bench throughput", result);
}

}  // namespace

void add_bench_throughput(CLI::App& bench, const Globals& globals, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *bench.add_subcommand("throughput", "Offline engine throughput");
  auto* model = command.add_option("MODEL", options->model, "Model folder");
  add_synthetic_flags(command, options->synthetic);
  command.add_option("--kv", options->kv, "Cache format: kv16, kv8 or kv4");
  command.add_option("--kv-memory", options->kv_memory, "Memory for the cache")
      ->capture_default_str();
  const CLI::Range count(int64_t{1}, int64_t{1} << 24);
  command.add_option("--requests", options->num_requests, "Requests, all at t = 0")
      ->check(count)
      ->capture_default_str();
  command.add_option("--input-len", options->input_len, "Prompt tokens")
      ->check(count)
      ->capture_default_str();
  command.add_option("--output-len", options->output_len, "Generated tokens")
      ->check(count)
      ->capture_default_str();
  command
      .add_option("--max-batch-tokens", options->max_batch_tokens,
                  "Tokens of one step at most (default: 512; on a GPU 8192)")
      ->check(count);
  command.callback([&globals, &action, options, model, &command] {
    if (model->count() + command.get_option("--synthetic")->count() != 1) {
      throw CLI::ValidationError("bench throughput", "give a MODEL folder or --synthetic NAME");
    }
    action = [&globals, options] { return run_throughput(globals, *options); };
  });
}

}  // namespace comet::cli
