// comet bench ablation: what each feature of COMET's W4Ax kernel is worth on this card, on the
// shapes and at the INT4 share of the paper's kernel tests; every row's outputs are compared.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "apps/comet/bench_shapes.h"
#include "apps/comet/command.h"
#include "bench/ablation/ablation.h"

namespace comet::cli {
namespace {

struct Options {
  std::vector<std::string> shapes{"llama3-8b", "llama3-70b"};
  std::vector<int64_t> m{16, 64, 256};
  double int8_share = 0.25;
};

int64_t n_of(const bench::LinearShape& shape) {
  int64_t n = 0;
  for (const int64_t rows : shape.part_rows) n += rows;
  return n;
}

/// The time of the variant that this one is compared with over its own; null for the first.
Json speedup_of(const std::vector<bench::AblationTiming>& timings,
                const bench::AblationTiming& timing) {
  for (const bench::AblationTiming& other : timings) {
    if (other.variant == timing.against) return other.us / timing.us;
  }
  return {};
}

/// The floor is one pass over the weights' 4-bit codes at the copy rate.
Json row_json(const bench::LinearShape& shape, const bench::AblationCase& what,
              const bench::AblationTiming& timing, double copy_gb_per_s) {
  const double bytes = static_cast<double>(what.n) * static_cast<double>(what.k) / 2;
  const double floor_us = bytes / copy_gb_per_s / 1e3;
  Json row = {{"shape", shape.name},
              {"n", what.n},
              {"k", what.k},
              {"m", what.m},
              {"kernel", "w4ax_sm80"},
              {"variant", timing.variant},
              {"against", timing.against.empty() ? Json() : Json(timing.against)},
              {"int8_share", what.int8_share},
              {"us", timing.us},
              {"floor_us", floor_us},
              {"floor_share", floor_us / timing.us},
              {"gb_per_s", bytes / timing.us / 1e3},
              {"tops", 4 * bytes * static_cast<double>(what.m) / timing.us / 1e6},
              {"num_ctas", timing.num_ctas},
              {"has_shared_tiles", timing.has_shared_tiles},
              {"is_emulated", timing.is_emulated}};
  row.update(bench::state_json(timing.state));
  return row;
}

void print_row(const Json& row) {
  const std::string speedup = row["speedup"].is_null()
                                  ? std::string("-")
                                  : fmt::format("{:.2f}", row["speedup"].get<double>());
  const std::string against = row["against"].is_null() ? "" : row["against"].get<std::string>();
  std::fputs(fmt::format("{:<20} {:>5} {:<12} {:>10.1f} {:>7.0f} % {:>8.1f} {:>8} x {:<12}{}\n",
                         row["shape"].get<std::string>(), row["m"].get<int64_t>(),
                         row["variant"].get<std::string>(), row["us"].get<double>(),
                         100 * row["floor_share"].get<double>(), row["tops"].get<double>(), speedup,
                         against, row["is_emulated"].get<bool>() ? "emulated on this card" : "")
                 .c_str(),
             stdout);
  std::fflush(stdout);
}

/// Geometric means of the speed-ups by variant and number of tokens.
Json summary_of(const Json& rows) {
  Json summary = Json::array();
  for (const Json& row : rows) {
    if (row["speedup"].is_null()) continue;
    auto found = std::find_if(summary.begin(), summary.end(), [&](const Json& s) {
      return s["variant"] == row["variant"] && s["m"] == row["m"];
    });
    if (found == summary.end()) {
      summary.push_back({{"m", row["m"]},
                         {"variant", row["variant"]},
                         {"against", row["against"]},
                         {"log_sum", 0.0},
                         {"num_shapes", 0}});
      found = summary.end() - 1;
    }
    (*found)["log_sum"] =
        (*found)["log_sum"].get<double>() + std::log(row["speedup"].get<double>());
    (*found)["num_shapes"] = (*found)["num_shapes"].get<int64_t>() + 1;
  }
  for (Json& s : summary) {
    s["speedup"] = std::exp(s["log_sum"].get<double>() / s["num_shapes"].get<double>());
    s.erase("log_sum");
  }
  return summary;
}

void print_summary(const Json& summary) {
  std::fputs("\ngeometric means over the shapes\n", stdout);
  for (const Json& s : summary) {
    std::fputs(fmt::format("{:>5} {:<12} {:>8.2f} x {}\n", s["m"].get<int64_t>(),
                           s["variant"].get<std::string>(), s["speedup"].get<double>(),
                           s["against"].get<std::string>())
                   .c_str(),
               stdout);
  }
  std::fflush(stdout);
}

void run_case(Context& ctx, const Globals& globals, const bench::LinearShape& shape,
              const bench::AblationCase& what, double copy_gb_per_s, Json& rows) {
  const auto timings = bench::time_ablation(ctx, what, globals.seed);
  for (const bench::AblationTiming& timing : timings) {
    Json row = row_json(shape, what, timing, copy_gb_per_s);
    row["speedup"] = speedup_of(timings, timing);
    rows.push_back(std::move(row));
    if (prints_text(globals)) print_row(rows.back());
  }
}

Status run_ablation(const Globals& globals, const Options& options) {
  const auto shapes = parse_shapes(options.shapes);
  if (!shapes) return shapes.error();
  for (const bench::LinearShape& shape : *shapes) {
    if (n_of(shape) % 128 == 0 && shape.k % 128 == 0) continue;
    return make_error(ErrorCode::kInvalidArgument,
                      "--shapes: {} is {} x {}; the ablation takes multiples of 128", shape.name,
                      n_of(shape), shape.k);
  }
  auto runtime = make_runtime(globals);
  if (!runtime) return runtime.error();
  Context& ctx = (*runtime)->context();
  if (ctx.cuda == nullptr) {
    return make_error(ErrorCode::kUnsupported,
                      "bench ablation measures a GPU's kernels; add --device cuda");
  }
  const double copy_gb_per_s = bench::measure_gpu_copy_gb_per_s(ctx);
  if (prints_text(globals)) {
    std::fputs(fmt::format("{}; copies {:.0f} GB/s; {:.0f} % of the blocks in INT8\n"
                           "{:<20} {:>5} {:<12} {:>10} {:>9} {:>8} {:>10}\n",
                           ctx.caps.gpu_name, copy_gb_per_s, 100 * options.int8_share, "shape", "m",
                           "variant", "us", "of floor", "TOPS", "speed-up")
                   .c_str(),
               stdout);
  }
  Json rows = Json::array();
  for (const bench::LinearShape& shape : *shapes) {
    for (const int64_t m : options.m) {
      run_case(ctx, globals, shape, {n_of(shape), shape.k, m, options.int8_share}, copy_gb_per_s,
               rows);
    }
  }
  const Json summary = summary_of(rows);
  if (prints_text(globals)) print_summary(summary);
  return write_json_result(globals, "bench ablation",
                           {{"rows", std::move(rows)},
                            {"summary", summary},
                            {"gpu", ctx.caps.gpu_name},
                            {"copy_gb_per_s", copy_gb_per_s}});
}

}  // namespace

void add_bench_ablation(CLI::App& bench, const Globals& globals, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App& app = *bench.add_subcommand(
      "ablation", "What each feature of the W4Ax kernel is worth on this GPU");
  app.fallthrough();
  app.add_option("--shapes", options->shapes, "MODEL or MODEL.qkv|o|gate_up|down, …")
      ->delimiter(',');
  app.add_option("--m", options->m, "Numbers of tokens")
      ->delimiter(',')
      ->check(CLI::Range(int64_t{1}, int64_t{16384}));
  app.add_option("--int8-share", options->int8_share,
                 "Share of INT8 blocks (the paper's kernel tests: 0.25)")
      ->check(CLI::Range(0.0, 1.0));
  app.callback([&globals, &action, options] {
    action = [&globals, options] { return run_ablation(globals, *options); };
  });
}

}  // namespace comet::cli
