// Kernel rows of w4ax on the CPU: split the tiles over the pool, put outputs in place, add biases.
#include <algorithm>

#include "comet/formats/cpu/isa_row.h"
#include "comet/formats/w4ax/cpu/gemm_args.h"
#include "comet/formats/w4ax/w4ax.h"

namespace comet::formats::w4ax {
namespace {

using cpu::GemmArgs;
using cpu::GemmIsa;
using cpu::TileUnits;
using cpu::TokenRange;

GemmArgs gemm_args(const LinearWeight& weight, const Meta& meta, const Activation& x) {
  const std::vector<Tensor>& tensors = weight.tensors;
  GemmArgs args;
  args.packed = tensors[kPacked].data<uint8_t>();
  if (tensors[kChannelScale].defined()) args.channel_scale = tensors[kChannelScale].data<float>();
  if (tensors[kGroupScale].defined()) {
    args.group_scale = reinterpret_cast<const uint16_t*>(tensors[kGroupScale].data<Float16>());
  }
  if (tensors[kMultiplier].defined()) {
    args.multiplier = tensors[kMultiplier].data<uint8_t>();
    args.offset = tensors[kOffset].data<int8_t>();
  }
  args.stored_rows = meta.num_stored_rows();
  args.blocks = meta.site.num_blocks();
  args.int4_blocks = args.blocks - meta.site.int8_blocks;
  args.block_scales = meta.site.scale == ActScale::kS1;
  args.tokens = x.rows;
  args.codes = x.parts[kCodes].data<int8_t>();
  args.x_scales = x.parts[kScales].data<float>();
  args.block_sums = x.parts[kBlockSums].data<int32_t>();
  return args;
}

/// Copies some rows of a tile's y [count, 128] to the output, and adds the bias.
struct Destination {
  const Meta& meta;
  View<float, 2> out;
  const float* bias;  // [n] or null

  void store(const TileUnits& units, const TokenRange& tokens, const float* y) const {
    const RowTile& rows = meta.tiles[static_cast<size_t>(units.tile)];
    const int64_t begin = units.begin * cpu::kUnitRows;
    const int64_t end = std::min(units.end * cpu::kUnitRows, rows.num_rows);
    for (int64_t t = 0; t < tokens.count; ++t) {
      float* row = out.row(tokens.begin + t) + rows.column;
      for (int64_t i = begin; i < end; ++i) {
        const float value = y[t * cpu::kTileRows + i];
        row[i] = bias == nullptr ? value : value + bias[rows.column + i];
      }
    }
  }
};

const float* bias_as_float(Context& ctx, const Tensor& bias) {
  if (!bias.defined()) return nullptr;
  if (bias.dtype() == DType::kF32) return bias.data<float>();
  auto* values = ctx.arena.alloc_array<float>(bias.num_elements());
  for (int64_t i = 0; i < bias.num_elements(); ++i) {
    values[i] = bias.dtype() == DType::kBF16 ? to_float(bias.data<BFloat16>()[i])
                                             : to_float(bias.data<Float16>()[i]);
  }
  return values;
}

constexpr int64_t kTasksPerThread = 4;

/// Decode: runs of whole tiles where there are enough of them, else of fewer units.
void run_few_tokens(Context& ctx, const GemmIsa& isa, GemmArgs args, const Destination& to) {
  const int64_t k = args.blocks * cpu::kBlockChannels;
  auto* expanded = ctx.arena.alloc_array<int8_t>(args.tokens * k * 2);
  for (int64_t t = 0; t < args.tokens; ++t) {
    isa.expand_codes(args.codes + t * k, args.blocks, expanded + t * k * 2);
  }
  args.expanded = expanded;
  // A task is a run of neighbouring units: long, because every task's first lines are not
  // prefetched, but several per thread, to even out.
  const int64_t num_units = args.stored_rows / cpu::kUnitRows;
  const int64_t even_share = num_units / (kTasksPerThread * ctx.pool.num_threads());
  const int64_t step = even_share < cpu::kUnits ? std::max<int64_t>(even_share, 1)
                                                : even_share / cpu::kUnits * cpu::kUnits;
  const int64_t groups = (args.tokens + cpu::kFewTokens - 1) / cpu::kFewTokens;
  const int64_t group = (args.tokens + groups - 1) / groups;
  ctx.pool.parallel_for((num_units + step - 1) / step, [&](int64_t task, int) {
    const int64_t end = std::min(num_units, (task + 1) * step);
    for (int64_t unit = task * step; unit < end;) {
      const int64_t first = unit % cpu::kUnits;
      const TileUnits units{unit / cpu::kUnits, first, std::min(cpu::kUnits, first + end - unit)};
      alignas(64) float y[cpu::kFewTokens * cpu::kTileRows];
      for (int64_t token = 0; token < args.tokens; token += group) {
        const TokenRange tokens{token, std::min(group, args.tokens - token)};
        isa.few_tokens(args, units, tokens, y);
        to.store(units, tokens, y);
      }
      unit += units.end - units.begin;
    }
  });
}

void run_many_tokens(Context& ctx, const GemmIsa& isa, const GemmArgs& args,
                     const Destination& to) {
  const int64_t num_threads = ctx.pool.num_threads();
  constexpr int64_t kOutputs = cpu::kTileRows * cpu::kPanelTokens;
  auto* panels = ctx.arena.alloc_array<uint8_t>(num_threads * cpu::kPanelBytes);
  auto* totals = ctx.arena.alloc_array<float>(num_threads * cpu::kTotals);
  auto* outputs = ctx.arena.alloc_array<float>(num_threads * kOutputs);
  const int64_t num_tiles = args.stored_rows / cpu::kTileRows;
  const int64_t chunks = (args.tokens + cpu::kPanelTokens - 1) / cpu::kPanelTokens;
  ctx.pool.parallel_for(num_tiles * chunks, [&](int64_t task, int thread) {
    const TileUnits units{task / chunks, 0, cpu::kUnits};
    const int64_t begin = task % chunks * cpu::kPanelTokens;
    const TokenRange tokens{begin, std::min(cpu::kPanelTokens, args.tokens - begin)};
    float* y = outputs + thread * kOutputs;
    isa.many_tokens(args, units.tile, tokens,
                    {panels + thread * cpu::kPanelBytes, totals + thread * cpu::kTotals}, y);
    to.store(units, tokens, y);
  });
}

template <const GemmIsa& Isa>
void run(Context& ctx, const LinearWeight& weight, const Activation& x, Rows rows) {
  const View<float, 2> out = rows.f32();
  const Meta& meta = meta_of(weight);
  COMET_CHECK(out.size(0) == x.rows && out.size(1) == weight.spec.n() && out.strides[1] == 1,
              "{}: output is [{}, {}]", weight.spec.name, out.size(0), out.size(1));
  if (x.rows == 0) return;
  const ArenaScope scope(ctx.arena);
  const GemmArgs args = gemm_args(weight, meta, x);
  const Destination to{meta, out, bias_as_float(ctx, weight.tensors[kBias])};
  if (x.rows <= cpu::kDecodeTokens) {
    run_few_tokens(ctx, Isa, args, to);
  } else {
    run_many_tokens(ctx, Isa, args, to);
  }
}

}  // namespace

std::span<const LinearKernel> kernels() {
  static const std::array<LinearKernel, 3> rows{{
      {"w4ax_portable", supports<CpuIsa::kPortable>, cost_us<CpuIsa::kPortable>,
       run<cpu::kPortableIsa>},
      {"w4ax_avx2", supports<CpuIsa::kAvx2>, cost_us<CpuIsa::kAvx2>, run<cpu::kAvx2Isa>},
      {"w4ax_avx512vnni", supports<CpuIsa::kAvx512Vnni>, cost_us<CpuIsa::kAvx512Vnni>,
       run<cpu::kAvx512VnniIsa>},
  }};
  return rows;
}

}  // namespace comet::formats::w4ax
