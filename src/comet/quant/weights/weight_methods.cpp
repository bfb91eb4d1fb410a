#include "comet/quant/weights/weight_methods.h"

#include <array>

namespace comet::quant {
namespace {

using formats::kBlock;

GridKind grid_kind(const WeightProblem& problem) {
  return {problem.granularity, problem.scale_type, problem.codes};
}

std::vector<int8_t> nearest_codes(ThreadPool& pool, const Matrix& stored, const WeightGrid& grid) {
  std::vector<int8_t> codes(stored.values.size());
  pool.parallel_for(stored.rows, [&](int64_t row, int) {
    for (int64_t g = 0; g < grid.num_groups; ++g) {
      code_nearest(grid, row, g, {stored.row(row) + g * kBlock, kBlock},
                   {codes.data() + row * stored.cols + g * kBlock, kBlock});
    }
  });
  return codes;
}

Result<CodedWeight> round_to_nearest(Context& ctx, const WeightProblem& problem) {
  CodedWeight coded;
  coded.grid = choose_grid(ctx.pool, problem.stored, grid_kind(problem), false, {});
  coded.codes = nearest_codes(ctx.pool, problem.stored, coded.grid);
  return coded;
}

Result<CodedWeight> clip_searched(Context& ctx, const WeightProblem& problem) {
  CodedWeight coded;
  coded.grid = choose_grid(ctx.pool, problem.stored, grid_kind(problem), true, problem.importance);
  coded.codes = nearest_codes(ctx.pool, problem.stored, coded.grid);
  return coded;
}

Result<CodedWeight> gptq(Context& ctx, const WeightProblem& problem) {
  COMET_CHECK(problem.codes != WeightCodes::kE4M3, "{}: FP8 weights are rounded only",
              problem.name);
  COMET_CHECK(problem.hessian != nullptr && problem.hessian->num_channels() == problem.stored.cols,
              "{}: no Hessian of {} channels", problem.name, problem.stored.cols);
  CodedWeight coded;
  coded.grid = choose_grid(ctx.pool, problem.stored, grid_kind(problem), problem.search_scales,
                           problem.importance);
  auto codes = problem.hessian->code({problem.name, problem.stored, coded.grid, problem.damp});
  if (!codes) return codes.error();
  coded.codes = *std::move(codes);
  return coded;
}

constexpr std::array kMethods{
    WeightMethod{"rtn", false, round_to_nearest},
    WeightMethod{"clip", false, clip_searched},
    WeightMethod{"gptq", true, gptq},
};

}  // namespace

std::span<const WeightMethod> weight_methods() { return kMethods; }

Result<const WeightMethod*> find_weight_method(std::string_view name) {
  for (const WeightMethod& method : kMethods) {
    if (method.name == name) return &method;
  }
  return make_error(ErrorCode::kInvalidArgument,
                    "weight method '{}' does not exist; expected rtn, clip or gptq", name);
}

Matrix decoded_weight(ThreadPool& pool, const CodedWeight& coded) {
  Matrix decoded(coded.grid.num_rows, coded.grid.num_groups * kBlock);
  pool.parallel_for(decoded.rows, [&](int64_t row, int) {
    for (int64_t g = 0; g < coded.grid.num_groups; ++g) {
      decode(coded.grid, row, g, {coded.codes.data() + row * decoded.cols + g * kBlock, kBlock},
             {decoded.row(row) + g * kBlock, kBlock});
    }
  });
  return decoded;
}

}  // namespace comet::quant
