// comet bench attention: decode and prefill attention of a GPU over each cache format, beside the
// rate of a copy measured in the same run.
#include <charconv>
#include <cstdio>

#include "apps/comet/command.h"
#include "bench/attention_bench.h"
#include "comet/models/synthetic.h"

namespace comet::cli {
namespace {

constexpr double kDenseBf16Tflops = 989.0;  // H100 and H200 SXM, by the data sheet

struct Options {
  std::string shapes = "llama3-8b";
  std::vector<std::string> kv{"kv16", "kv8", "kv4"};
  std::vector<std::string> decode{"64x2048", "256x1536", "8x8192", "1x2048"};
  std::vector<std::string> prefill{"8x4096", "4x1024"};
  int64_t chunk = 0;
};

struct BatchLen {
  int64_t batch = 0;
  int64_t len = 0;
};

Result<BatchLen> parse_batch_len(const std::string& flag, const std::string& text) {
  BatchLen parsed;
  const char* end = text.data() + text.size();
  const auto batch = std::from_chars(text.data(), end, parsed.batch);
  if (batch.ec == std::errc() && batch.ptr < end && *batch.ptr == 'x') {
    const auto len = std::from_chars(batch.ptr + 1, end, parsed.len);
    if (len.ec == std::errc() && len.ptr == end && parsed.batch > 0 && parsed.len > 0 &&
        parsed.batch <= 4096 && parsed.len <= (int64_t{1} << 20)) {
      return parsed;
    }
  }
  return make_error(ErrorCode::kInvalidArgument,
                    "{} '{}': expected SEQUENCESxTOKENS, such as 64x2048", flag, text);
}

std::string_view kind_name(bench::AttentionKind kind) {
  if (kind == bench::AttentionKind::kAppend) return "append";
  return kind == bench::AttentionKind::kDecode ? "decode" : "prefill";
}

Json row_json(const bench::AttentionCase& what, const bench::AttentionTiming& timing,
              double copy_gb_per_s) {
  const double gb_per_s = timing.bytes / timing.us / 1e3;
  const double tflops = timing.flops / timing.us / 1e6;
  return {{"kind", kind_name(what.kind)},
          {"kernel", timing.kernel},
          {"kv", what.kv},
          {"batch", what.batch},
          {"kv_len", what.kv_len},
          {"query_len", what.query_len},
          {"num_heads", what.num_heads},
          {"num_kv_heads", what.num_kv_heads},
          {"head_dim", what.head_dim},
          {"us", timing.us},
          {"bytes", timing.bytes},
          {"gb_per_s", gb_per_s},
          {"copy_share", gb_per_s / copy_gb_per_s},
          {"tflops", tflops},
          {"peak_share", tflops / kDenseBf16Tflops},
          {"gpu", bench::state_json(timing.state)}};
}

void print_row(const Json& row) {
  std::fputs(
      fmt::format("{:<8} {:<9} {:<5} {:>5} {:>7} {:>7} {:>10.2f} {:>9.1f} {:>7.1f} % {:>8.1f} "
                  "{:>7.1f} %\n",
                  row["kind"].get<std::string>(), row["kernel"].get<std::string>(),
                  row["kv"].get<std::string>(), row["batch"].get<int64_t>(),
                  row["kv_len"].get<int64_t>(), row["query_len"].get<int64_t>(),
                  row["us"].get<double>(), row["gb_per_s"].get<double>(),
                  100 * row["copy_share"].get<double>(), row["tflops"].get<double>(),
                  100 * row["peak_share"].get<double>())
          .c_str(),
      stdout);
  std::fflush(stdout);
}

Result<std::vector<bench::AttentionCase>> cases_of(const Options& options) {
  const auto config = models::synthetic_config(options.shapes);
  if (!config) return config.error();
  std::vector<bench::AttentionCase> cases;
  const auto add = [&](bench::AttentionKind kind, const std::string& flag, const std::string& text,
                       const std::string& kv) -> Status {
    const auto parsed = parse_batch_len(flag, text);
    if (!parsed) return parsed.error();
    int64_t query_len = 1;
    if (kind == bench::AttentionKind::kPrefill) {
      query_len = options.chunk > 0 ? std::min(options.chunk, parsed->len) : parsed->len;
    }
    cases.push_back({kind, kv, parsed->batch, parsed->len, query_len, config->num_heads,
                     config->num_kv_heads, config->head_dim});
    return {};
  };
  for (const std::string& kv : options.kv) {
    for (const std::string& text : options.decode) {
      const Status added = add(bench::AttentionKind::kDecode, "--decode", text, kv);
      if (!added) return added.error();
    }
    if (!options.decode.empty()) {
      const Status added = add(bench::AttentionKind::kAppend, "--decode", options.decode[0], kv);
      if (!added) return added.error();
    }
    for (const std::string& text : options.prefill) {
      const Status added = add(bench::AttentionKind::kPrefill, "--prefill", text, kv);
      if (!added) return added.error();
    }
  }
  return cases;
}

Status run_attention(const Globals& globals, const Options& options) {
  const auto cases = cases_of(options);
  if (!cases) return cases.error();
  auto runtime = make_runtime(globals);
  if (!runtime) return runtime.error();
  Context& ctx = (*runtime)->context();
  if (ctx.cuda == nullptr) {
    return make_error(ErrorCode::kUnsupported,
                      "bench attention measures a GPU's kernels; add --device cuda");
  }
  const double copy_gb_per_s = bench::measure_gpu_copy_gb_per_s(ctx);
  if (prints_text(globals)) {
    std::fputs(
        fmt::format("{}, {}; copies {:.0f} GB/s\n{:<8} {:<9} {:<5} {:>5} {:>7} {:>7} {:>10} "
                    "{:>9} {:>9} {:>8} {:>9}\n",
                    ctx.caps.gpu_name, options.shapes, copy_gb_per_s, "kind", "kernel", "kv",
                    "batch", "keys", "queries", "us", "GB/s", "of copy", "TFLOP/s", "of peak")
            .c_str(),
        stdout);
  }
  Json rows = Json::array();
  for (const bench::AttentionCase& what : *cases) {
    for (const bench::AttentionTiming& timing : bench::time_attention(ctx, what, globals.seed)) {
      rows.push_back(row_json(what, timing, copy_gb_per_s));
      if (prints_text(globals)) print_row(rows.back());
    }
  }
  return write_json_result(globals, "bench attention",
                           {{"shapes", options.shapes},
                            {"gpu_name", ctx.caps.gpu_name},
                            {"rows", std::move(rows)},
                            {"copy_gb_per_s", copy_gb_per_s},
                            {"peak_tflops", kDenseBf16Tflops}});
}

}  // namespace

void add_bench_attention(CLI::App& bench, const Globals& globals, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App& app =
      *bench.add_subcommand("attention", "A GPU's attention against its copy and product rates");
  app.fallthrough();
  app.add_option("--shapes", options->shapes, "MODEL whose heads are taken");
  app.add_option("--kv", options->kv, "Cache formats")
      ->delimiter(',')
      ->check(CLI::IsMember({"kv16", "kv8", "kv4"}));
  app.add_option("--decode", options->decode, "SEQUENCESxTOKENS of decode, …")->delimiter(',');
  app.add_option("--prefill", options->prefill, "SEQUENCESxTOKENS of prefill, …")->delimiter(',');
  app.add_option("--chunk", options->chunk, "Queries of a prefill (0: all tokens)")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 20));
  app.callback([&globals, &action, options] {
    action = [&globals, options] { return run_attention(globals, *options); };
  });
}

}  // namespace comet::cli
