#include "comet/ops/packed_product/packed_product.h"

#include <algorithm>

#include "comet/ops/packed_product/packed_groups.h"

namespace comet {
namespace {

// A task's groups of rows pass over a panel while it is in L1; with what an MLP has between its
// products they leave room for panels in L2.
constexpr int64_t kMaxGroups = 8;
constexpr int64_t kTaskBytes = int64_t{1} << 20;
/// With fewer rows a thread reads weights for too little work: threads share out columns instead.
constexpr int64_t kRowsPerThread = 64;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Floats of a group whose rows have k values.
int64_t group_size(const PackedIsa& isa, int64_t k) {
  return ceil_div(k, kPackedDepth) * isa.rows * kPackedStride;
}

/// Columns of the last panel, as laid.
int64_t last_width(const PackedIsa& isa, int64_t n) {
  const int64_t rest = n % isa.width;
  return rest == 0 || rest > isa.width / 2 ? isa.width : isa.width / 2;
}

void load_group(const PackedIsa& isa, View<const float, 2> x, int64_t row, int64_t num_rows,
                float* group) {
  const int64_t k = x.size(1);
  for (int64_t begin = 0; begin < k; begin += kPackedDepth) {
    const int64_t num = std::min(kPackedDepth, k - begin);
    for (int64_t r = 0; r < num_rows; ++r) {
      std::copy_n(x.row(row + r) + begin, num, group + r * kPackedStride);
    }
    group += isa.rows * kPackedStride;
  }
}

/// Groups [begin, end) of a product's rows, as `groups` lie.
struct GroupRun {
  const PackedGroups& cut;
  int64_t begin;
  int64_t end;
  const float* groups;
};

/// Where a product's outputs go: rows of a matrix, or groups for the next product.
struct PackedOut {
  View<float, 2> matrix;
  float* groups = nullptr;
};

/// Panels [panel_begin, panel_end) for all rows of a run.
void multiply_run(const PackedIsa& isa, const GroupRun& run, const PackedWeights& weights,
                  const PackedOut& out, PackedEnd end, std::pair<int64_t, int64_t> panels) {
  const int64_t from_size = group_size(isa, weights.k);
  const int64_t to_size = group_size(isa, weights.n);
  PackedTile tile;
  tile.k = weights.k;
  tile.end = end;
  for (int64_t panel = panels.first; panel < panels.second; ++panel) {
    const int64_t column = panel * isa.width;
    tile.b = weights.panels + column * weights.k;
    tile.num_columns = std::min(isa.width, weights.n - column);
    if (weights.bias != nullptr) tile.bias = weights.bias + column;
    const float* next = panel + 1 < panels.second ? tile.b + isa.width * weights.k : tile.b;
    for (int64_t group = run.begin; group < run.end; ++group) {
      tile.a = run.groups + (group - run.begin) * from_size;
      tile.num_rows = run.cut.rows(group);
      const PanelAhead ahead(next, isa.width * int64_t{sizeof(float)}, weights.k, group - run.begin,
                             run.end - run.begin);
      tile.ahead = ahead.first;
      tile.ahead_step = ahead.step_bytes;
      if (out.groups != nullptr) {
        tile.out = out.groups + (group - run.begin) * to_size +
                   column / kPackedDepth * isa.rows * kPackedStride + column % kPackedDepth;
        tile.out_stride = kPackedStride;
      } else {
        tile.out = out.matrix.row(run.cut.begin(group)) + column;
        tile.out_stride = out.matrix.strides[0];
      }
      isa.multiply(tile);
    }
  }
}

void check_product(View<const float, 2> out, View<const float, 2> x, const PackedWeights& weights) {
  COMET_CHECK(out.size(0) == x.size(0) && out.size(1) == weights.n && x.size(1) == weights.k &&
                  weights.k > 0,
              "out [{}, {}], x [{}, {}], weight [{}, {}]", out.size(0), out.size(1), x.size(0),
              x.size(1), weights.n, weights.k);
}

bool shares_columns(const Context& ctx, int64_t num_rows) {
  return num_rows < kRowsPerThread * ctx.pool.num_threads();
}

/// All rows in every task, some panels each.
void multiply_by_columns(Context& ctx, View<float, 2> out, View<const float, 2> x,
                         const PackedWeights& weights, PackedEnd end) {
  const PackedIsa& isa = packed_isa(ctx.caps.cpu_isa);
  const PackedGroups cut(x.size(0), isa.rows);
  const int64_t size = group_size(isa, weights.k);
  auto* groups = ctx.arena.alloc_array<float>(cut.count * size);
  ctx.pool.parallel_for(cut.count, [&](int64_t group, int) {
    load_group(isa, x, cut.begin(group), cut.rows(group), groups + group * size);
  });
  constexpr int64_t kPanelsPerTask = 4;
  const EvenTasks tasks(ceil_div(weights.n, isa.width), kPanelsPerTask, ctx.pool.num_threads());
  ctx.pool.parallel_for(tasks.num_tasks, [&](int64_t task, int) {
    multiply_run(isa, {cut, 0, cut.count, groups}, weights, {out}, end,
                 {tasks.begin(task), tasks.begin(task + 1)});
  });
}

/// Some rows in every task, all panels.
void multiply_by_rows(Context& ctx, View<float, 2> out, View<const float, 2> x,
                      const PackedWeights& weights, PackedEnd end) {
  const PackedIsa& isa = packed_isa(ctx.caps.cpu_isa);
  const PackedGroups cut(x.size(0), isa.rows);
  const int64_t size = group_size(isa, weights.k);
  const EvenTasks tasks(cut.count, kMaxGroups, ctx.pool.num_threads());
  auto* scratch = ctx.arena.alloc_array<float>(ctx.pool.num_threads() * tasks.longest() * size);
  ctx.pool.parallel_for(tasks.num_tasks, [&](int64_t task, int thread) {
    float* groups = scratch + thread * tasks.longest() * size;
    const GroupRun run{cut, tasks.begin(task), tasks.begin(task + 1), groups};
    for (int64_t group = run.begin; group < run.end; ++group) {
      load_group(isa, x, cut.begin(group), cut.rows(group), groups + (group - run.begin) * size);
    }
    multiply_run(isa, run, weights, {out}, end, {0, ceil_div(weights.n, isa.width)});
  });
}

}  // namespace

const PackedIsa& packed_isa(CpuIsa isa) {
  if (isa == CpuIsa::kPortable) return kPackedPortable;
  return isa == CpuIsa::kAvx2 ? kPackedAvx2 : kPackedAvx512;
}

int64_t packed_weight_size(const Caps& caps, int64_t n, int64_t k) {
  const PackedIsa& isa = packed_isa(caps.cpu_isa);
  return (ceil_div(n, isa.width) * isa.width - isa.width + last_width(isa, n)) * k;
}

void pack_weights(const Caps& caps, float* panels, View<const float, 2> weight) {
  const PackedIsa& isa = packed_isa(caps.cpu_isa);
  const int64_t n = weight.size(0);
  const int64_t k = weight.size(1);
  for (int64_t column = 0; column < n; column += isa.width) {
    const int64_t width = n - column > isa.width ? isa.width : last_width(isa, n);
    float* panel = panels + column * k;
    std::fill_n(panel, width * k, 0.0F);
    for (int64_t i = 0; i < std::min(width, n - column); ++i) {
      const float* row = weight.row(column + i);
      for (int64_t j = 0; j < k; ++j) panel[j * width + i] = row[j];
    }
  }
}

void packed_product(Context& ctx, View<float, 2> out, View<const float, 2> x,
                    const PackedWeights& weights, PackedEnd end) {
  check_product(out, x, weights);
  if (x.size(0) == 0) return;
  const ArenaScope scope(ctx.arena);
  if (shares_columns(ctx, x.size(0))) return multiply_by_columns(ctx, out, x, weights, end);
  multiply_by_rows(ctx, out, x, weights, end);
}

void packed_mlp(Context& ctx, View<float, 2> to, View<const float, 2> x, const PackedWeights& fc1,
                const PackedWeights& fc2) {
  COMET_CHECK(
      to.size(0) == x.size(0) && fc1.n == fc2.k && to.size(1) == fc2.n && x.size(1) == fc1.k,
      "to [{}, {}], x [{}, {}], weights [{}, {}] and [{}, {}]", to.size(0), to.size(1), x.size(0),
      x.size(1), fc1.n, fc1.k, fc2.n, fc2.k);
  if (x.size(0) == 0) return;
  const ArenaScope scope(ctx.arena);
  if (shares_columns(ctx, x.size(0))) {
    auto* values = ctx.arena.alloc_array<float>(x.size(0) * fc1.n);
    const View<float, 2> hidden{values, {x.size(0), fc1.n}, {fc1.n, 1}};
    multiply_by_columns(ctx, hidden, x, fc1, PackedEnd::kGelu);
    return multiply_by_columns(ctx, to, hidden, fc2, PackedEnd::kAdd);
  }
  const PackedIsa& isa = packed_isa(ctx.caps.cpu_isa);
  const PackedGroups cut(x.size(0), isa.rows);
  const int64_t x_size = group_size(isa, fc1.k);
  const int64_t hidden_size = group_size(isa, fc2.k);
  const int64_t group_bytes = (x_size + hidden_size) * int64_t{sizeof(float)};
  const EvenTasks tasks(cut.count, std::clamp<int64_t>(kTaskBytes / group_bytes, 1, kMaxGroups),
                        ctx.pool.num_threads());
  const int64_t thread_size = tasks.longest() * (x_size + hidden_size);
  auto* scratch = ctx.arena.alloc_array<float>(ctx.pool.num_threads() * thread_size);
  ctx.pool.parallel_for(tasks.num_tasks, [&](int64_t task, int thread) {
    float* groups = scratch + thread * thread_size;
    float* hidden = groups + tasks.longest() * x_size;
    const int64_t begin = tasks.begin(task);
    const int64_t end = tasks.begin(task + 1);
    for (int64_t group = begin; group < end; ++group) {
      load_group(isa, x, cut.begin(group), cut.rows(group), groups + (group - begin) * x_size);
    }
    fetch_rows(to, cut.begin(begin), cut.begin(end));
    multiply_run(isa, {cut, begin, end, groups}, fc1, {{}, hidden}, PackedEnd::kGelu,
                 {0, ceil_div(fc1.n, isa.width)});
    multiply_run(isa, {cut, begin, end, hidden}, fc2, {to}, PackedEnd::kAdd,
                 {0, ceil_div(fc2.n, isa.width)});
  });
}

}  // namespace comet
