// comet bench gemm|ablation|ops|attention|throughput|vision|serve: speed beside the machine's
// roofs, and of a running server.
#include "apps/comet/command.h"

namespace comet::cli {

void add_bench_throughput(CLI::App& bench, const Globals& globals, Action& action);
void add_bench_gemm(CLI::App& bench, const Globals& globals, Action& action);
void add_bench_ablation(CLI::App& bench, const Globals& globals, Action& action);
void add_bench_ops(CLI::App& bench, const Globals& globals, Action& action);
void add_bench_attention(CLI::App& bench, const Globals& globals, Action& action);
void add_bench_serve(CLI::App& bench, const Globals& globals, Action& action);
void add_bench_vision(CLI::App& bench, const Globals& globals, Action& action);

void add_bench(CLI::App& app, const Globals& globals, Action& action) {
  CLI::App& bench = *app.add_subcommand("bench", "Measure speed beside the machine's roofs");
  bench.require_subcommand(1);
  bench.fallthrough();
  add_bench_throughput(bench, globals, action);
  add_bench_gemm(bench, globals, action);
  add_bench_ablation(bench, globals, action);
  add_bench_ops(bench, globals, action);
  add_bench_attention(bench, globals, action);
  add_bench_serve(bench, globals, action);
  add_bench_vision(bench, globals, action);
}

}  // namespace comet::cli
