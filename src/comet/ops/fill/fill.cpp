#include "comet/ops/fill/fill.h"

#include <algorithm>
#include <cstring>

#include "comet/base/rng.h"

namespace comet {
namespace {

constexpr int64_t kTaskDraws = int64_t{1} << 15;

/// The 8 bytes that a draw makes (the low 4 where elements are bytes of 16 bits each).
template <RandomKind kKind>
uint64_t bytes_of_draw(uint64_t bits, const uint16_t* table) {
  if constexpr (kKind == RandomKind::kNibbles) return bits;
  uint64_t word = 0;
  for (int j = 0; j < 4; ++j) {
    const uint64_t part = bits >> (16 * j) & 0xFFFF;
    if constexpr (kKind == RandomKind::kTable16) {
      word |= uint64_t{table[part % kRandomTableSize]} << (16 * j);
    } else {
      const uint64_t byte = kKind == RandomKind::kE4M3 ? (part & 0x8F) | 0x30 : part % 255 - 127;
      word |= (byte & 0xFF) << (8 * j);
    }
  }
  return word;
}

template <RandomKind kKind>
void fill_on_cpu(Context& ctx, const Tensor& out, const RandomFill& fill) {
  constexpr bool kByteElements = kKind == RandomKind::kS8 || kKind == RandomKind::kE4M3;
  constexpr int64_t kDrawBytes = kByteElements ? 4 : 8;
  constexpr uint64_t kDrawCounters = kKind == RandomKind::kNibbles ? 1 : 4;
  const Rng rng(fill.seed, fill.stream);
  const auto* table =
      fill.table.defined() ? reinterpret_cast<const uint16_t*>(fill.table.raw()) : nullptr;
  const int64_t num_bytes = out.num_bytes();
  const int64_t num_draws = (num_bytes + kDrawBytes - 1) / kDrawBytes;
  ctx.pool.parallel_for((num_draws + kTaskDraws - 1) / kTaskDraws, [&](int64_t task, int) {
    const int64_t end = std::min(num_draws, (task + 1) * kTaskDraws);
    for (int64_t draw = task * kTaskDraws; draw < end; ++draw) {
      const uint64_t word =
          bytes_of_draw<kKind>(rng.bits(static_cast<uint64_t>(draw) * kDrawCounters), table);
      const int64_t at = draw * kDrawBytes;
      std::memcpy(out.raw() + at, &word, static_cast<size_t>(std::min(kDrawBytes, num_bytes - at)));
    }
  });
}

}  // namespace

void random_fill(Context& ctx, const Tensor& out, const RandomFill& fill) {
  COMET_CHECK(out.contiguous() && (fill.kind == RandomKind::kTable16) == fill.table.defined() &&
                  (fill.kind != RandomKind::kTable16 || dtype_bytes(out.dtype()) == 2),
              "a fill of {} {}", dtype_name(out.dtype()), out.shape().to_string());
  if (ctx.cuda != nullptr) return random_fill_cuda(ctx, out, fill);
  switch (fill.kind) {
    case RandomKind::kTable16:
      return fill_on_cpu<RandomKind::kTable16>(ctx, out, fill);
    case RandomKind::kS8:
      return fill_on_cpu<RandomKind::kS8>(ctx, out, fill);
    case RandomKind::kE4M3:
      return fill_on_cpu<RandomKind::kE4M3>(ctx, out, fill);
    case RandomKind::kNibbles:
      return fill_on_cpu<RandomKind::kNibbles>(ctx, out, fill);
  }
}

}  // namespace comet
