// Kernel rows of w8a8-int on the CPU for linears of image classifiers, which meet many rows:
// weights packed at load, rows quantized a task at a time, bias, GELU and addition in the product.
#include <algorithm>

#include "comet/formats/w8a8/channel_codes.h"
#include "comet/formats/w8a8_int/cpu/packed/packed_weights.h"
#include "comet/formats/w8a8_int/w8a8_int.h"
#include "comet/ops/packed_product/packed_groups.h"

namespace comet::formats::w8a8_int {
namespace {

using cpu::ceil_div;
using cpu::CodesIsa;
using cpu::CodesTile;
using cpu::kCodesDepth;
using cpu::kCodesStride;
using cpu::kOffsets;
using cpu::kPackedBias;
using cpu::kPanels;

// As in ops/packed_product.
constexpr int64_t kMaxGroups = 8;
constexpr int64_t kTaskBytes = int64_t{1} << 20;
constexpr int64_t kRowsPerThread = 64;

/// Bytes of a group whose rows have k codes.
int64_t group_bytes(const CodesIsa& isa, int64_t k) {
  return ceil_div(k, kCodesDepth) * isa.rows * kCodesStride;
}

/// Groups of rows as codes with their scales, made in pieces by whoever holds the memory.
struct Codes {
  uint8_t* groups = nullptr;  // of the first group of the piece
  float* scales = nullptr;    // of the rows of all groups
};

struct Piece {
  const PackedGroups& cut;
  int64_t begin;
  int64_t end;
};

/// Row i of a product is row i − first_row of x.
struct PieceIn {
  View<const float, 2> x;
  int64_t first_row = 0;
};

void quantize_piece(const CodesIsa& isa, const Piece& piece, const PieceIn& in, const Codes& to) {
  const int64_t k = in.x.size(1);
  for (int64_t group = piece.begin; group < piece.end; ++group) {
    uint8_t* rows = to.groups + (group - piece.begin) * group_bytes(isa, k);
    for (int64_t row = piece.cut.begin(group); row < piece.cut.begin(group + 1); ++row) {
      to.scales[row] = isa.quantize(in.x.row(row - in.first_row), k, rows);
      rows += kCodesStride;
    }
  }
}

/// Where a piece's outputs go: out.row(row − first_row).
struct PieceOut {
  View<float, 2> out;
  int64_t first_row = 0;
  PackedEnd end = PackedEnd::kPlain;
};

/// Panels [panel_begin, panel_end) for the rows of a piece.
void multiply_piece(const CodesIsa& isa, const LinearWeight& weight, const Piece& piece,
                    const Codes& codes, const PieceOut& to, std::pair<int64_t, int64_t> panels) {
  const int64_t n = weight.spec.n();
  const int64_t k_padded = ceil_div(weight.spec.k, 4) * 4;
  CodesTile tile;
  tile.num_quads = k_padded / 4;
  tile.end = to.end;
  tile.out_stride = to.out.strides[0];
  for (int64_t panel = panels.first; panel < panels.second; ++panel) {
    const int64_t column = panel * isa.width;
    tile.b = weight.tensors[kPanels].data<int8_t>() + column * k_padded;
    tile.offset = weight.tensors[kOffsets].data<int32_t>() + column;
    tile.scale = w8a8::scales_of(weight) + column;
    tile.num_columns = std::min(isa.width, n - column);
    if (weight.spec.has_bias) tile.bias = weight.tensors[kPackedBias].data<float>() + column;
    const int8_t* next = panel + 1 < panels.second ? tile.b + isa.width * k_padded : tile.b;
    for (int64_t group = piece.begin; group < piece.end; ++group) {
      const PanelAhead ahead(next, isa.width * 4, tile.num_quads, group - piece.begin,
                             piece.end - piece.begin);
      tile.ahead = ahead.first;
      tile.ahead_step = ahead.step_bytes;
      tile.a = codes.groups + (group - piece.begin) * group_bytes(isa, weight.spec.k);
      tile.x_scale = codes.scales + piece.cut.begin(group);
      tile.num_rows = piece.cut.rows(group);
      tile.out = to.out.row(piece.cut.begin(group) - to.first_row) + column;
      isa.multiply(tile);
    }
  }
}

int64_t num_panels(const CodesIsa& isa, const LinearWeight& weight) {
  return ceil_div(weight.spec.n(), isa.width);
}

/// All rows, which are codes already, in every task; some panels each.
void multiply_by_columns(Context& ctx, const CodesIsa& isa, const LinearWeight& weight,
                         const PackedGroups& cut, const Codes& codes, const PieceOut& to) {
  constexpr int64_t kPanelsPerTask = 4;
  const EvenTasks tasks(num_panels(isa, weight), kPanelsPerTask, ctx.pool.num_threads());
  ctx.pool.parallel_for(tasks.num_tasks, [&](int64_t task, int) {
    multiply_piece(isa, weight, {cut, 0, cut.count}, codes, to,
                   {tasks.begin(task), tasks.begin(task + 1)});
  });
}

Codes allocate_codes(Context& ctx, const CodesIsa& isa, const PackedGroups& cut, int64_t k) {
  return {ctx.arena.alloc_array<uint8_t>(cut.count * group_bytes(isa, k)),
          ctx.arena.alloc_array<float>(cut.num_rows)};
}

PackedEnd packed_end(LinearEnd end) {
  if (end == LinearEnd::kGelu) return PackedEnd::kGelu;
  return end == LinearEnd::kAdd ? PackedEnd::kAdd : PackedEnd::kPlain;
}

void check_rows(const LinearWeight& weight, ConstRows x, Rows out) {
  COMET_CHECK(x.num_columns == weight.spec.k && out.num_rows == x.num_rows &&
                  out.num_columns == weight.spec.n(),
              "{}: x [{}, {}], out [{}, {}]", weight.spec.name, x.num_rows, x.num_columns,
              out.num_rows, out.num_columns);
  COMET_CHECK(weight.tensors[kPanels].shape().rank() == 1, "{} was not prepared", weight.spec.name);
}

void run_rows(Context& ctx, const CodesIsa& isa, const LinearWeight& weight, View<const float, 2> x,
              const PieceOut& to) {
  const PackedGroups cut(x.size(0), isa.rows);
  const int num_threads = ctx.pool.num_threads();
  const int64_t k = weight.spec.k;
  const Codes all = allocate_codes(ctx, isa, cut, k);
  const bool by_columns = x.size(0) < kRowsPerThread * num_threads;
  const EvenTasks tasks(cut.count, by_columns ? 1 : kMaxGroups, num_threads);
  ctx.pool.parallel_for(tasks.num_tasks, [&](int64_t task, int) {
    const Piece piece{cut, tasks.begin(task), tasks.begin(task + 1)};
    const Codes codes{all.groups + piece.begin * group_bytes(isa, k), all.scales};
    quantize_piece(isa, piece, {x, 0}, codes);
    if (!by_columns) multiply_piece(isa, weight, piece, codes, to, {0, num_panels(isa, weight)});
  });
  if (by_columns) multiply_by_columns(ctx, isa, weight, cut, all, to);
}

/// Of codes that were made elsewhere.
void run_codes(Context& ctx, const CodesIsa& isa, const LinearWeight& weight, const Activation& x,
               const PieceOut& to) {
  const PackedGroups cut(x.rows, isa.rows);
  const Codes codes = allocate_codes(ctx, isa, cut, weight.spec.k);
  const int64_t stride = x.parts[kCodes].size(1);
  for (int64_t group = 0; group < cut.count; ++group) {
    uint8_t* rows = codes.groups + group * group_bytes(isa, weight.spec.k);
    for (int64_t row = cut.begin(group); row < cut.begin(group + 1); ++row) {
      isa.place(x.parts[kCodes].data<int8_t>() + row * stride, weight.spec.k, rows);
      codes.scales[row] = x.parts[kScales].data<float>()[2 * row + 1];
      rows += kCodesStride;
    }
  }
  multiply_by_columns(ctx, isa, weight, cut, codes, to);
}

/// Scratch of one thread of an MLP: a task's rows as codes, then the hidden rows, then as codes.
struct MlpScratch {
  int64_t x_bytes, hidden_bytes, num_values;  // of one thread
  uint8_t* x;
  uint8_t* hidden;
  float* values;
};

MlpScratch allocate_scratch(Context& ctx, const CodesIsa& isa, int64_t num_groups, int64_t k,
                            int64_t hidden) {
  MlpScratch scratch{};
  scratch.x_bytes = num_groups * group_bytes(isa, k);
  scratch.hidden_bytes = num_groups * group_bytes(isa, hidden);
  scratch.num_values = num_groups * isa.rows * hidden;
  const int64_t num_threads = ctx.pool.num_threads();
  scratch.x = ctx.arena.alloc_array<uint8_t>(num_threads * scratch.x_bytes);
  scratch.hidden = ctx.arena.alloc_array<uint8_t>(num_threads * scratch.hidden_bytes);
  scratch.values = ctx.arena.alloc_array<float>(num_threads * scratch.num_values);
  return scratch;
}

/// By rows: the hidden ones of a task stay in the cache.
void run_mlp(Context& ctx, const CodesIsa& isa, const std::array<const LinearWeight*, 2>& fc,
             View<const float, 2> x, View<float, 2> to) {
  const PackedGroups cut(x.size(0), isa.rows);
  const int64_t hidden = fc[0]->spec.n();
  const int64_t bytes = isa.rows * hidden * int64_t{sizeof(float)} +
                        group_bytes(isa, fc[0]->spec.k) + group_bytes(isa, hidden);
  const EvenTasks tasks(cut.count, std::clamp<int64_t>(kTaskBytes / bytes, 1, kMaxGroups),
                        ctx.pool.num_threads());
  const MlpScratch scratch = allocate_scratch(ctx, isa, tasks.longest(), fc[0]->spec.k, hidden);
  auto* scales = ctx.arena.alloc_array<float>(2 * x.size(0));
  ctx.pool.parallel_for(tasks.num_tasks, [&](int64_t task, int thread) {
    const Piece piece{cut, tasks.begin(task), tasks.begin(task + 1)};
    const int64_t first_row = cut.begin(piece.begin);
    const int64_t num_rows = cut.begin(piece.end) - first_row;
    const View<float, 2> values{
        scratch.values + thread * scratch.num_values, {num_rows, hidden}, {hidden, 1}};
    const Codes codes{scratch.x + thread * scratch.x_bytes, scales};
    quantize_piece(isa, piece, {x, 0}, codes);
    fetch_rows(to, first_row, first_row + num_rows);
    multiply_piece(isa, *fc[0], piece, codes, {values, first_row, PackedEnd::kGelu},
                   {0, num_panels(isa, *fc[0])});
    const Codes hidden_codes{scratch.hidden + thread * scratch.hidden_bytes, scales + x.size(0)};
    quantize_piece(isa, piece, {values, first_row}, hidden_codes);
    multiply_piece(isa, *fc[1], piece, hidden_codes, {to, 0, PackedEnd::kAdd},
                   {0, num_panels(isa, *fc[1])});
  });
}

template <CpuIsa Isa>
bool supports_packed(const LinearWeight& weight, const Caps& caps) {
  return caps.kind == DeviceKind::kCpu && caps.cpu_isa >= Isa && weight.spec.may_round &&
         weight.spec.parts.size() == 1 && w8a8::input_scale_of(weight) == 0;
}

/// Below every other row that supports such a weight, the newer instruction set first.
template <CpuIsa Isa>
double packed_cost_us(const LinearWeight& /*weight*/, const Caps& /*caps*/) {
  return -static_cast<double>(Isa);
}

template <const CodesIsa& Isa>
void run_rows_isa(Context& ctx, const LinearWeight& weight, ConstRows x, Rows out, LinearEnd end) {
  check_rows(weight, x, out);
  if (x.num_rows == 0) return;
  const ArenaScope scope(ctx.arena);
  run_rows(ctx, Isa, weight, x.f32(), {out.f32(), 0, packed_end(end)});
}

template <const CodesIsa& Isa>
void run_with_isa(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out,
                  LinearEnd end) {
  COMET_CHECK(out.num_rows == x.rows && out.num_columns == weight.spec.n(),
              "{}: output is [{}, {}]", weight.spec.name, out.num_rows, out.num_columns);
  if (x.rows == 0) return;
  const ArenaScope scope(ctx.arena);
  run_codes(ctx, Isa, weight, x, {out.f32(), 0, packed_end(end)});
}

template <const CodesIsa& Isa>
void run_isa(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out) {
  run_with_isa<Isa>(ctx, weight, x, out, LinearEnd::kPlain);
}

template <const CodesIsa& Isa>
void run_mlp_isa(Context& ctx, const LinearWeight& fc1, const LinearWeight& fc2, ConstRows x,
                 Rows to) {
  COMET_CHECK(x.num_columns == fc1.spec.k && fc1.spec.n() == fc2.spec.k &&
                  to.num_columns == fc2.spec.n() && to.num_rows == x.num_rows,
              "{}: x [{}, {}], to [{}, {}]", fc1.spec.name, x.num_rows, x.num_columns, to.num_rows,
              to.num_columns);
  if (x.num_rows == 0) return;
  const ArenaScope scope(ctx.arena);
  if (x.num_rows >= kRowsPerThread * ctx.pool.num_threads()) {
    return run_mlp(ctx, Isa, {&fc1, &fc2}, x.f32(), to.f32());
  }
  const Tensor hidden = ctx.arena.alloc(DType::kF32, {x.num_rows, fc1.spec.n()});
  run_rows(ctx, Isa, fc1, x.f32(), {Rows(hidden).f32(), 0, PackedEnd::kGelu});
  run_rows(ctx, Isa, fc2, ConstRows(hidden).f32(), {to.f32(), 0, PackedEnd::kAdd});
}

template <const CodesIsa& Isa, CpuIsa Needs>
constexpr LinearKernel packed_kernel(std::string_view name) {
  return {.name = name,
          .supports = supports_packed<Needs>,
          .cost_us = packed_cost_us<Needs>,
          .run = run_isa<Isa>,
          .run_with = run_with_isa<Isa>,
          .run_rows = run_rows_isa<Isa>,
          .run_mlp = run_mlp_isa<Isa>};
}

}  // namespace

std::array<LinearKernel, 2> packed_kernels() {
  return {
      packed_kernel<cpu::kPackedAvx2Isa, CpuIsa::kAvx2>("w8a8_int_packed_avx2"),
      packed_kernel<cpu::kPackedAvx512VnniIsa, CpuIsa::kAvx512Vnni>("w8a8_int_packed_avx512vnni")};
}

Status prepare_packed(Context& /*ctx*/, LinearWeight& weight) {
  if (weight.kernel->run_rows == run_rows_isa<cpu::kPackedAvx2Isa>) {
    cpu::pack_codes(cpu::kPackedAvx2Isa, weight);
  } else if (weight.kernel->run_rows == run_rows_isa<cpu::kPackedAvx512VnniIsa>) {
    cpu::pack_codes(cpu::kPackedAvx512VnniIsa, weight);
  }
  return {};
}

}  // namespace comet::formats::w8a8_int
