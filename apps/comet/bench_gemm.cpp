// comet bench gemm: every weight format's product on a model's shapes, beside the floor that the
// machine's memory sets (a CPU's read rate, a GPU's copy rate) and, on a GPU, beside cuBLASLt; all
// measured in the same run.
#include <cstdio>

#include "apps/comet/bench_shapes.h"
#include "apps/comet/command.h"
#include "bench/gpu_library.h"
#include "bench/linear_bench.h"
#include "bench/roof.h"

namespace comet::cli {
namespace {

/// Empty lists: what suits the device.
struct Options {
  std::vector<std::string> shapes;
  std::vector<int64_t> m;
  std::vector<std::string> formats;
  std::string w4 = "group";
  std::string act_scale = "S2";
  double int8_share = 1.0;
  int repeats = 5;
  bool explain = false;
  bool all_kernels = false;
  bool peers = true;
};

void fill_defaults(Options& options, bool on_gpu) {
  if (options.shapes.empty()) options.shapes = {on_gpu ? "llama3-8b" : "llama3.2-1b"};
  if (options.m.empty()) {
    options.m = on_gpu ? std::vector<int64_t>{1, 16, 64, 256, 1024, 4096}
                       : std::vector<int64_t>{1, 4, 16, 64, 512};
  }
  if (!options.formats.empty()) return;
  options.formats = {"dense", "w4ax"};
  if (on_gpu) options.formats = {"dense", "w8a8-fp8", "w8a8-int", "w4a16", "w4ax"};
}

/// Rates of the device's memory in GB/s.
struct Roof {
  double floor_gb_per_s = 0;  // which floors are of: reads of a CPU, copies of a GPU
  double copy_gb_per_s = 0;
};

Roof measure_roof(Context& ctx) {
  Roof roof;
  const bool on_gpu = ctx.cuda != nullptr;
  roof.copy_gb_per_s =
      on_gpu ? bench::measure_gpu_copy_gb_per_s(ctx) : bench::measure_copy_gb_per_s(ctx);
  roof.floor_gb_per_s = on_gpu ? roof.copy_gb_per_s : bench::measure_read_gb_per_s(ctx);
  return roof;
}

bench::LinearBenchOptions bench_options(const Globals& globals, const Options& options,
                                        const std::string& format) {
  using formats::ActScale;
  using formats::Granularity;
  bench::LinearBenchOptions result;
  result.format = format == "bf16" ? "dense" : format;
  result.seed = globals.seed;
  result.int8_share = options.int8_share;
  for (const auto g : {Granularity::kChannel, Granularity::kGroup, Granularity::kProgressive}) {
    if (options.w4 == granularity_name(g)) result.granularity = g;
  }
  for (const auto s : {ActScale::kS1, ActScale::kS2, ActScale::kS2h}) {
    if (options.act_scale == act_scale_name(s)) result.act_scale = s;
  }
  return result;
}

/// What the rows of one shape share.
struct ShapeRun {
  const bench::LinearShape& shape;
  const Roof& roof;
  std::vector<bench::LibraryTimes> peers;  // by position in Options::m; empty: not measured
};

Json peers_json(const bench::LibraryTimes& times) {
  const auto value = [](const std::optional<double>& us) { return us ? Json(*us) : Json(); };
  return {{"cublaslt_bf16_us", value(times.bf16_us)},
          {"cublaslt_fp8_us", value(times.fp8_us)},
          {"cublaslt_fp8_row_us", value(times.fp8_row_us)},
          {"cublaslt_int8_us", value(times.int8_us)}};
}

/// One row of the result: the floor is one pass over the weights at the measured rate.
Json row_json(const ShapeRun& run, const formats::LinearWeight& weight, std::string_view kernel,
              int64_t m, const bench::LinearTiming& timing) {
  const auto bytes = static_cast<double>(weight.bytes());
  const auto n = static_cast<double>(weight.spec.n());
  const double macs = n * static_cast<double>(weight.spec.k * m);
  const double floor_us = bytes / run.roof.floor_gb_per_s / 1e3;
  Json row = {{"shape", run.shape.name},
              {"n", weight.spec.n()},
              {"k", weight.spec.k},
              {"m", m},
              {"format", weight.format->name},
              {"kernel", kernel},
              {"us", timing.us},
              {"input_us", timing.input_us},
              {"floor_us", floor_us},
              {"floor_share", floor_us / timing.us},
              {"gb_per_s", bytes / timing.us / 1e3},
              {"tops", 2 * macs / timing.us / 1e6},
              {"weight_bytes", weight.bytes()},
              {"peers", Json::object()}};
  return row;
}

/// How w4ax computes.
void add_traits(Json& row, const formats::LinearTraits& traits) {
  row["act_scale"] = traits.act_scale;
  row["w4"] = traits.w4;
  row["int8_share"] =
      1.0 - static_cast<double>(traits.int4_blocks) / static_cast<double>(traits.blocks);
}

void print_row(const Json& row) {
  std::fputs(fmt::format("{:<22} {:>6} {:<20} {:>11.1f} {:>9.1f} {:>8.2f} {:>7.0f} % {:>8.3f}\n",
                         row["shape"].get<std::string>(), row["m"].get<int64_t>(),
                         row["kernel"].get<std::string>(), row["us"].get<double>(),
                         row["input_us"].get<double>(), row["gb_per_s"].get<double>(),
                         100 * row["floor_share"].get<double>(), row["tops"].get<double>())
                 .c_str(),
             stdout);
  std::fflush(stdout);
}

void print_peers(const bench::LinearShape& shape, int64_t m, const bench::LibraryTimes& times) {
  const auto text = [](const std::optional<double>& us) {
    return us ? fmt::format("{:.1f}", *us) : std::string("-");
  };
  std::fputs(fmt::format("{:<22} {:>6} cuBLASLt us: bf16 {}, fp8 {}, fp8 by rows {}, int8 {}\n",
                         shape.name, m, text(times.bf16_us), text(times.fp8_us),
                         text(times.fp8_row_us), text(times.int8_us))
                 .c_str(),
             stdout);
  std::fflush(stdout);
}

/// Which kernel rows exist for this weight, and why one of them runs.
void print_verdicts(const formats::LinearWeight& weight, const Caps& caps) {
  for (const formats::LinearKernel& kernel : weight.backend->kernels) {
    const bool supported = kernel.supports(weight, caps);
    std::fputs(fmt::format("  {:<24} {}\n", kernel.name,
                           !supported                 ? "not on this device"
                           : &kernel == weight.kernel ? "runs"
                                                      : "supported, slower by estimate")
                   .c_str(),
               stdout);
  }
}

void print_plan(const formats::LinearKernel& kernel, const formats::LinearWeight& weight,
                const Caps& caps, int64_t m) {
  if (kernel.describe == nullptr) return;
  std::fputs(
      fmt::format("  {:<24} {} tokens: {}\n", kernel.name, m, kernel.describe(weight, caps, m))
          .c_str(),
      stdout);
}

/// One format on one shape, all numbers of tokens.
Status run_format(Context& ctx, const Globals& globals, const Options& options,
                  const std::string& format, const ShapeRun& run, Json& rows) {
  auto copies = bench::make_copies(ctx, run.shape, bench_options(globals, options, format));
  if (!copies) return copies.error();
  const formats::LinearWeight& weight = (*copies)[0];
  if (options.explain && prints_text(globals)) print_verdicts(weight, ctx.caps);
  for (size_t i = 0; i < options.m.size(); ++i) {
    for (const formats::LinearKernel& kernel : weight.backend->kernels) {
      const bool is_wanted =
          &kernel == weight.kernel || (options.all_kernels && kernel.supports(weight, ctx.caps));
      if (!is_wanted) continue;
      const bench::LinearTiming timing =
          bench::time_linear(ctx, *copies, kernel, options.m[i], options.repeats);
      Json row = row_json(run, weight, kernel.name, options.m[i], timing);
      if (weight.format->traits != nullptr) add_traits(row, weight.format->traits(weight));
      if (ctx.cuda != nullptr) row.update(bench::state_json(timing.state));
      if (!run.peers.empty()) row["peers"] = peers_json(run.peers[i]);
      rows.push_back(std::move(row));
      if (!prints_text(globals)) continue;
      if (options.explain) print_plan(kernel, weight, ctx.caps, options.m[i]);
      print_row(rows.back());
    }
  }
  return {};
}

Status run_shape(Context& ctx, const Globals& globals, const Options& options,
                 const bench::LinearShape& shape, const Roof& roof, Json& rows) {
  ShapeRun run{shape, roof, {}};
  int64_t n = 0;
  for (const int64_t part : shape.part_rows) n += part;
  for (const int64_t m : options.m) {
    if (ctx.cuda == nullptr || !options.peers) break;
    run.peers.push_back(bench::time_library(ctx, {m, n, shape.k}, {}));
    if (prints_text(globals)) print_peers(shape, m, run.peers.back());
  }
  for (const std::string& format : options.formats) {
    const Status done = run_format(ctx, globals, options, format, run, rows);
    if (!done) return done;
  }
  return {};
}

Json gemm_result(Context& ctx, const Roof& roof, Json rows) {
  Json result = {{"rows", std::move(rows)},
                 {"cpu_isa", cpu_isa_name(ctx.caps.cpu_isa)},
                 {"num_threads", ctx.caps.num_threads},
                 {"copy_gb_per_s", roof.copy_gb_per_s}};
  if (ctx.cuda == nullptr) {
    result["read_gb_per_s"] = roof.floor_gb_per_s;
  } else {
    result["gpu"] = ctx.caps.gpu_name;
  }
  return result;
}

Status run_gemm(const Globals& globals, const Options& wanted) {
  auto runtime = make_runtime(globals);
  if (!runtime) return runtime.error();
  Context& ctx = (*runtime)->context();
  const bool on_gpu = ctx.cuda != nullptr;
  Options options = wanted;
  fill_defaults(options, on_gpu);
  auto shapes = parse_shapes(options.shapes);
  if (!shapes) return shapes.error();
  const Roof roof = measure_roof(ctx);
  if (prints_text(globals)) {
    const std::string device =
        on_gpu ? ctx.caps.gpu_name
               : fmt::format("{}, {} threads, {}", ctx.caps.cpu_name, ctx.caps.num_threads,
                             cpu_isa_name(ctx.caps.cpu_isa));
    std::fputs(fmt::format("{}; {} {:.1f} GB/s\n"
                           "{:<22} {:>6} {:<20} {:>11} {:>9} {:>8} {:>9} {:>8}\n",
                           device, on_gpu ? "copies" : "reads", roof.floor_gb_per_s, "shape", "m",
                           "kernel", "us", "input us", "GB/s", "of floor", "TOPS")
                   .c_str(),
               stdout);
  }
  Json rows = Json::array();
  for (const bench::LinearShape& shape : *shapes) {
    const Status done = run_shape(ctx, globals, options, shape, roof, rows);
    if (!done) return done;
  }
  return write_json_result(globals, "bench gemm", gemm_result(ctx, roof, std::move(rows)));
}

}  // namespace

void add_bench_gemm(CLI::App& bench, const Globals& globals, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App& app = *bench.add_subcommand("gemm", "Weight products against the machine's read rate");
  app.fallthrough();
  app.add_option("--shapes", options->shapes, "MODEL or MODEL.qkv|o|gate_up|down|lm_head, …")
      ->delimiter(',');
  app.add_option("--m", options->m, "Numbers of tokens")
      ->delimiter(',')
      ->check(CLI::Range(int64_t{1}, int64_t{16384}));
  app.add_option("--format", options->formats, "Weight formats")
      ->delimiter(',')
      ->check(CLI::IsMember({"dense", "bf16", "w4ax", "w4a16", "w8a8-int", "w8a8-fp8"}));
  app.add_option("--w4", options->w4, "w4ax weight scales")
      ->check(CLI::IsMember({"channel", "group", "progressive"}));
  app.add_option("--act-scale", options->act_scale, "w4ax activation scales")
      ->check(CLI::IsMember({"S1", "S2", "S2h"}));
  app.add_option("--int8-share", options->int8_share, "Share of INT8 blocks")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--repeats", options->repeats,
                 "Passes at least: the best of a CPU, the median of a GPU")
      ->check(CLI::Range(1, 1000));
  app.add_flag("--explain", options->explain, "List every kernel row with its verdict");
  app.add_flag("--all-kernels", options->all_kernels,
               "Time every kernel row that the device supports, not only the one that runs");
  app.add_flag("--peers,!--no-peers", options->peers, "On a GPU: time cuBLASLt beside (default)");
  app.callback([&globals, &action, options] {
    action = [&globals, options] { return run_gemm(globals, *options); };
  });
}

}  // namespace comet::cli
