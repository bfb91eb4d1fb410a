// product on the CPU. Both matrices are laid in panels ([k][6 rows] of a, [k][two vectors] of b),
// then tiles are multiplied, kBlockK deep at a time, so that a block of b stays in the cache while
// the rows of a task pass. A tile's sums have one order whatever the number of threads.
#include <algorithm>

#include "comet/ops/product/product.h"
#include "comet/ops/training_rows.h"

namespace comet {
namespace {

constexpr int64_t kBlockK = 256;
constexpr int64_t kRowsPerTask = 8 * kProductRows;
constexpr int64_t kTilesPerTask = 8;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Element (i, k) of a matrix stands at data[i · step_i + k · step_k].
struct Operand {
  const float* data;
  int64_t count;
  int64_t depth;
  int64_t step_i;
  int64_t step_k;
};

/// Panels [ceil(count / width)][depth][width], zeros beyond count.
float* packed(Context& ctx, const Operand& from, int64_t width) {
  const int64_t num_panels = ceil_div(from.count, width);
  auto* panels = ctx.arena.alloc_array<float>(num_panels * from.depth * width);
  constexpr int64_t kDepthPerTask = 1024;
  const int64_t num_slices = ceil_div(from.depth, kDepthPerTask);
  ctx.pool.parallel_for(num_panels * num_slices, [&](int64_t task_idx, int) {
    const int64_t first = task_idx / num_slices * width;
    const int64_t begin = task_idx % num_slices * kDepthPerTask;
    const int64_t end = std::min(from.depth, begin + kDepthPerTask);
    const int64_t count = std::min(width, from.count - first);
    float* to = panels + first * from.depth + begin * width;
    for (int64_t k = begin; k < end; ++k, to += width) {
      const float* source = from.data + first * from.step_i + k * from.step_k;
      for (int64_t i = 0; i < count; ++i) to[i] = source[i * from.step_i];
      std::fill(to + count, to + width, 0.0F);
    }
  });
  return panels;
}

struct Panels {
  const float* a;
  const float* b;
  int64_t k;
};

struct Block {
  int64_t row_begin, row_end;
  int64_t column_begin, column_end;
};

void multiply_block(const TrainingRows& rows, const Panels& panels, View<float, 2> out,
                    const ProductEnd& end, const Block& block) {
  for (int64_t k = 0; k < panels.k; k += kBlockK) {
    ProductTile tile;
    tile.k = std::min(kBlockK, panels.k - k);
    tile.out_stride = out.strides[0];
    tile.add_to_out = end.add_to_out || k > 0;
    for (int64_t column = block.column_begin; column < block.column_end;
         column += rows.tile_columns) {
      tile.b = panels.b + column * panels.k + k * rows.tile_columns;
      tile.num_columns = std::min(rows.tile_columns, block.column_end - column);
      tile.bias = end.bias.data == nullptr || k > 0 ? nullptr : end.bias.data + column;
      for (int64_t row = block.row_begin; row < block.row_end; row += kProductRows) {
        tile.a = panels.a + row * panels.k + k * kProductRows;
        tile.num_rows = std::min(kProductRows, block.row_end - row);
        tile.out = out.row(row) + column;
        rows.product_tile(tile);
      }
    }
  }
}

}  // namespace

void product_cpu(Context& ctx, Rows out_rows, ConstRows a_rows, ConstRows b_rows, ProductForm form,
                 const ProductEnd& end) {
  const View<float, 2> out = out_rows.f32();
  const View<const float, 2> a = a_rows.f32();
  const View<const float, 2> b = b_rows.f32();
  const auto& rows = training_rows(ctx.caps.cpu_isa);
  const ArenaScope scope(ctx.arena);
  const Operand left = form == ProductForm::kWeight
                           ? Operand{a.data, a.size(1), a.size(0), 1, a.strides[0]}
                           : Operand{a.data, a.size(0), a.size(1), a.strides[0], 1};
  const Operand right = form == ProductForm::kForward
                            ? Operand{b.data, b.size(0), b.size(1), b.strides[0], 1}
                            : Operand{b.data, b.size(1), b.size(0), 1, b.strides[0]};
  const Panels panels{packed(ctx, left, kProductRows), packed(ctx, right, rows.tile_columns),
                      left.depth};
  const int64_t columns_per_task = kTilesPerTask * rows.tile_columns;
  const int64_t num_across = ceil_div(out.size(1), columns_per_task);
  ctx.pool.parallel_for(ceil_div(out.size(0), kRowsPerTask) * num_across,
                        [&](int64_t task_idx, int) {
                          const int64_t row = task_idx / num_across * kRowsPerTask;
                          const int64_t column = task_idx % num_across * columns_per_task;
                          multiply_block(rows, panels, out, end,
                                         {row, std::min(out.size(0), row + kRowsPerTask), column,
                                          std::min(out.size(1), column + columns_per_task)});
                        });
}

}  // namespace comet
