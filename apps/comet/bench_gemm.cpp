// comet bench gemm: every weight format's product on a model's shapes, beside the floor that the
// machine's read rate sets, measured in the same run.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "apps/comet/command.h"
#include "bench/linear_bench.h"
#include "bench/roof.h"
#include "comet/models/synthetic.h"

namespace comet::cli {
namespace {

struct Options {
  std::vector<std::string> shapes{"llama3.2-1b"};
  std::vector<int64_t> m{1, 4, 16, 64, 512};
  std::vector<std::string> formats{"dense", "w4ax"};
  std::string w4 = "group";
  std::string act_scale = "S2";
  double int8_share = 1.0;
  int repeats = 5;
  bool explain = false;
};

/// "llama3-8b" = its four linears and lm_head; "llama3-8b.qkv" = one of them.
Result<std::vector<bench::LinearShape>> parse_shapes(const std::vector<std::string>& names) {
  std::vector<bench::LinearShape> shapes;
  for (const std::string& name : names) {
    std::string model = name;
    std::string wanted;
    auto config = models::synthetic_config(model);
    if (const size_t dot = name.rfind('.'); !config && dot != std::string::npos) {
      model = name.substr(0, dot);
      wanted = name.substr(dot + 1);
      config = models::synthetic_config(model);
    }
    if (!config) {
      return make_error(ErrorCode::kInvalidArgument,
                        "--shapes '{}': expected MODEL or MODEL.qkv|o|gate_up|down|lm_head with "
                        "MODEL one of {}",
                        name, models::synthetic_names());
    }
    const int64_t q = config->num_heads * config->head_dim;
    const int64_t kv = config->num_kv_heads * config->head_dim;
    const int64_t ffn = config->intermediate_size;
    const std::vector<bench::LinearShape> all{
        {model + ".qkv", {q, kv, kv}, config->hidden_size},
        {model + ".o", {config->hidden_size}, q},
        {model + ".gate_up", {ffn, ffn}, config->hidden_size},
        {model + ".down", {config->hidden_size}, ffn},
        {model + ".lm_head", {config->vocab_size}, config->hidden_size}};
    const size_t before = shapes.size();
    for (const bench::LinearShape& shape : all) {
      const bool head = shape.name.ends_with(".lm_head");
      const bool named = shape.name.substr(model.size() + 1) == wanted;
      if (wanted.empty() ? !head : named) shapes.push_back(shape);
    }
    if (shapes.size() == before) {
      return make_error(ErrorCode::kInvalidArgument,
                        "--shapes '{}': expected {}.qkv, .o, .gate_up, .down or .lm_head", name,
                        model);
    }
  }
  return shapes;
}

bench::LinearBenchOptions bench_options(const Globals& globals, const Options& options,
                                        const std::string& format) {
  using formats::ActScale;
  using formats::Granularity;
  bench::LinearBenchOptions result;
  result.format = format == "bf16" ? "dense" : format;
  result.repeats = options.repeats;
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

/// One row of the result: the floor is one pass over the weights at the measured read rate.
Json row_json(const bench::LinearShape& shape, const formats::LinearWeight& weight,
              std::string_view kernel, int64_t m, const bench::LinearTiming& timing,
              double read_gb_per_s) {
  const auto bytes = static_cast<double>(weight.bytes());
  const auto n = static_cast<double>(weight.spec.n());
  const double macs = n * static_cast<double>(weight.spec.k * m);
  const double floor_us = bytes / read_gb_per_s / 1e3;
  Json row = {{"shape", shape.name},
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
  if (weight.format->traits != nullptr) {
    const formats::LinearTraits traits = weight.format->traits(weight);
    row["act_scale"] = traits.act_scale;
    row["w4"] = traits.w4;
    row["int8_share"] =
        1.0 - static_cast<double>(traits.int4_blocks) / static_cast<double>(traits.blocks);
  }
  return row;
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

Status run_shape(Context& ctx, const Globals& globals, const Options& options,
                 const bench::LinearShape& shape, double read_gb_per_s, Json& rows) {
  for (const std::string& format : options.formats) {
    const bench::LinearBenchOptions made_with = bench_options(globals, options, format);
    auto copies = bench::make_copies(ctx, shape, made_with);
    if (!copies) return copies.error();
    const formats::LinearWeight& weight = (*copies)[0];
    if (options.explain && prints_text(globals)) print_verdicts(weight, ctx.caps);
    for (const int64_t m : options.m) {
      const bench::LinearTiming timing =
          bench::time_linear(ctx, *copies, *weight.kernel, m, options.repeats);
      rows.push_back(row_json(shape, weight, weight.kernel->name, m, timing, read_gb_per_s));
      if (prints_text(globals)) print_row(rows.back());
    }
  }
  return {};
}

Status run_gemm(const Globals& globals, const Options& options) {
  auto runtime = make_runtime(globals);
  if (!runtime) return runtime.error();
  Context& ctx = (*runtime)->context();
  auto shapes = parse_shapes(options.shapes);
  if (!shapes) return shapes.error();
  const double read_gb_per_s = bench::measure_read_gb_per_s(ctx);
  if (prints_text(globals)) {
    std::fputs(fmt::format("{}, {} threads, {}; reads {:.1f} GB/s\n"
                           "{:<22} {:>6} {:<20} {:>11} {:>9} {:>8} {:>9} {:>8}\n",
                           ctx.caps.cpu_name, ctx.caps.num_threads, cpu_isa_name(ctx.caps.cpu_isa),
                           read_gb_per_s, "shape", "m", "kernel", "us", "input us", "GB/s",
                           "of floor", "TOPS")
                   .c_str(),
               stdout);
  }
  Json rows = Json::array();
  for (const bench::LinearShape& shape : *shapes) {
    const Status done = run_shape(ctx, globals, options, shape, read_gb_per_s, rows);
    if (!done) return done;
  }
  return write_json_result(globals, "bench gemm",
                           {{"rows", std::move(rows)},
                            {"cpu_isa", cpu_isa_name(ctx.caps.cpu_isa)},
                            {"num_threads", ctx.caps.num_threads},
                            {"read_gb_per_s", read_gb_per_s},
                            {"copy_gb_per_s", bench::measure_copy_gb_per_s(ctx)}});
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
  app.add_option("--repeats", options->repeats, "Passes, of which the best counts")
      ->check(CLI::Range(1, 1000));
  app.add_flag("--explain", options->explain, "List every kernel row with its verdict");
  app.callback([&globals, &action, options] {
    action = [&globals, options] { return run_gemm(globals, *options); };
  });
}

}  // namespace comet::cli
