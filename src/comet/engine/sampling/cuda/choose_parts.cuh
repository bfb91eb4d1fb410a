// Choosing among the weights of one row with a whole CTA of kChooseThreads threads: cuts (the
// shortest beginning of the order that reaches a target) and draws (the token at a share of the
// sum). Caller: sample_choose.cu. All functions are called by all threads; results are the same in
// each.
//
// The order of engine/sampling: descending by logit, ties by id. A cut is found by narrowing an
// interval of order_key in steps of eight with exact sums, so nothing is sorted; then, where only a
// part of the tokens with that logit fits, by the same search over ids.
#pragma once

#include "comet/engine/sampling/cuda/sample_parts.cuh"

namespace comet::engine {

constexpr int kChooseThreads = 512;
constexpr int kWays = 8;  // parts into which a search splits its interval

struct ChooseShared {
  Best bests[32];
  uint64_t sums[kWays * 33];
  double sum_exps[33];
  uint64_t scan[33];
  int32_t found;
};

/// Tokens in ascending id: a part of the row, or what was collected from it.
struct TokenList {
  const float* logits;
  const int32_t* ids;  // nullptr: first, first + 1, …
  int32_t first;
  int32_t size;
  float max;    // of the row
  float scale;  // of the row

  [[nodiscard]] __device__ __forceinline__ int32_t id(int32_t i) const {
    return ids == nullptr ? first + i : ids[i];
  }
  [[nodiscard]] __device__ __forceinline__ float weight(float logit) const {
    return expf((logit - max) * scale);
  }
};

/// What is kept: every logit above a key, those at it up to an id, none below a weight.
struct Kept {
  uint32_t key = 0;
  int32_t last_id = 0x7FFFFFFF;
  float floor = 0;

  [[nodiscard]] __device__ __forceinline__ bool has(uint32_t token_key, int32_t id) const {
    return token_key > key || (token_key == key && id <= last_id);
  }
};

/// How much of `kept` in `list` satisfies `passes(bound, key, id)`, for each of kWays − 1 bounds:
/// the number of tokens, or the sum of their masses.
template <typename Passes>
__device__ __forceinline__ void measure(const TokenList& list, const Kept& kept, bool counts,
                                        const uint64_t (&bounds)[kWays - 1], const Passes& passes,
                                        uint64_t (&result)[kWays - 1], ChooseShared& shared) {
#pragma unroll
  for (uint64_t& x : result) x = 0;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < list.size; i += kChooseThreads) {
    const float logit = list.logits[i];
    const uint32_t key = order_key(logit);
    const int32_t id = list.id(i);
    if (!kept.has(key, id)) continue;
    const uint64_t one = counts ? 1 : mass_of(list.weight(logit));
#pragma unroll
    for (int j = 0; j < kWays - 1; ++j) result[j] += passes(bounds[j], key, id) ? one : 0;
  }
  block_totals(result, shared.sums);
}

/// The shortest beginning of `kept` whose measure reaches `target`, which is at least 1 and at most
/// that of all of `kept`.
__device__ inline Kept cut(const TokenList& list, const Kept& kept, bool counts, uint64_t target,
                           ChooseShared& shared) {
  // The largest key whose tokens and those above it reach the target: in [low, high).
  uint64_t low = kept.key;
  uint64_t high = static_cast<uint64_t>(order_key(list.max)) + 1;
  uint64_t above = 0;  // measure from `high` on
  uint64_t from_low = 0;
  while (high - low > 1) {
    const uint64_t step = (high - low + kWays - 1) / kWays;
    uint64_t bounds[kWays - 1];
    uint64_t sums[kWays - 1];
#pragma unroll
    for (int j = 0; j < kWays - 1; ++j) {
      const uint64_t bound = low + (j + 1) * step;
      bounds[j] = bound < high ? bound : high;
    }
    measure(
        list, kept, counts, bounds,
        [](uint64_t bound, uint32_t key, int32_t) { return key >= bound; }, sums, shared);
#pragma unroll
    for (int j = kWays - 2; j >= 0; --j) {
      // Descending bounds: the first that reaches the target is the new low, the last that does not
      // the new high. A bound equal to `high` repeats what is known.
      if (bounds[j] < high && bounds[j] > low) {
        if (sums[j] < target) {
          high = bounds[j];
          above = sums[j];
        } else {
          low = bounds[j];
          from_low = sums[j];
          break;
        }
      }
    }
  }
  Kept result = kept;
  result.key = static_cast<uint32_t>(low);
  if (from_low == 0) {  // `low` did not move, so its measure is that of all
    uint64_t bounds[kWays - 1];
    uint64_t sums[kWays - 1];
#pragma unroll
    for (uint64_t& bound : bounds) bound = low;
    measure(
        list, kept, counts, bounds,
        [](uint64_t bound, uint32_t key, int32_t) { return key >= bound; }, sums, shared);
    from_low = sums[0];
  }
  // Of the tokens at the key itself, the first `needed`.
  const uint64_t ties = from_low - above;
  uint64_t one = 1;
  if (!counts) {
    const uint32_t bits = (result.key >> 31) != 0 ? result.key & 0x7FFFFFFFU : ~result.key;
    one = mass_of(list.weight(__uint_as_float(bits)));
  }
  const uint64_t needed = one == 0 ? 0 : (target - above + one - 1) / one;
  if (one == 0 || needed >= ties / one) {
    if (low != kept.key) result.last_id = 0x7FFFFFFF;
    return result;
  }
  // The smallest id up to which there are `needed` ties: in (low_id, high_id], counted from −1 as
  // 0.
  Kept at_key = kept;
  uint64_t low_id = 0;
  uint64_t high_id = static_cast<uint64_t>(list.ids == nullptr ? list.first + list.size
                                                               : list.ids[list.size - 1] + 1);
  while (high_id - low_id > 1) {
    const uint64_t step = (high_id - low_id + kWays - 1) / kWays;
    uint64_t bounds[kWays - 1];
    uint64_t sums[kWays - 1];
#pragma unroll
    for (int j = 0; j < kWays - 1; ++j) {
      const uint64_t bound = low_id + (j + 1) * step;
      bounds[j] = bound < high_id ? bound : high_id;
    }
    const uint32_t tie_key = result.key;
    measure(
        list, at_key, true, bounds,
        [tie_key](uint64_t bound, uint32_t key, int32_t id) {
          return key == tie_key && static_cast<uint64_t>(id) + 1 <= bound;
        },
        sums, shared);
    const uint64_t old_high = high_id;
#pragma unroll
    for (int j = kWays - 2; j >= 0; --j) {
      if (bounds[j] >= old_high) continue;
      if (sums[j] >= needed) {
        high_id = bounds[j];
      } else {
        low_id = bounds[j];
        break;
      }
    }
  }
  result.last_id = static_cast<int32_t>(high_id) - 1;
  return result;
}

/// The sum of the masses of what is kept.
__device__ inline uint64_t mass_of_kept(const TokenList& list, const Kept& kept,
                                        ChooseShared& shared) {
  uint64_t total[1] = {0};
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < list.size; i += kChooseThreads) {
    const float logit = list.logits[i];
    const float weight = list.weight(logit);
    if (kept.has(order_key(logit), list.id(i)) && weight >= kept.floor) total[0] += mass_of(weight);
  }
  block_totals(total, shared.sums);
  return total[0];
}

/// The sum over the threads before this one; `total` becomes the sum over all.
__device__ inline uint64_t exclusive_scan(uint64_t x, uint64_t& total, uint64_t* shared) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  uint64_t inclusive = x;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const uint64_t other = __shfl_up_sync(0xFFFFFFFF, inclusive, step);
    if (lane >= step) inclusive += other;
  }
  __syncthreads();  // an earlier use of `shared` has ended
  if (lane == 31) shared[warp] = inclusive;
  __syncthreads();
  if (warp == 0) {
    const uint64_t sum = lane < kChooseThreads / 32 ? shared[lane] : 0;
    uint64_t scanned = sum;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const uint64_t other = __shfl_up_sync(0xFFFFFFFF, scanned, step);
      if (lane >= step) scanned += other;
    }
    shared[lane] = scanned - sum;
    if (lane == 31) shared[32] = scanned;  // of all warps
  }
  __syncthreads();
  total = shared[32];
  return shared[warp] + inclusive - x;
}

/// The first token, in order of id, at which the sum of the kept masses exceeds `left`, which is
/// below the sum of all.
__device__ inline int32_t draw(const TokenList& list, const Kept& kept, uint64_t left,
                               ChooseShared& shared) {
  constexpr int kEach = 4;
  if (threadIdx.x == 0) shared.found = -1;
  for (int32_t tile = 0; tile < list.size; tile += kChooseThreads * kEach) {
    const int32_t begin = tile + static_cast<int32_t>(threadIdx.x) * kEach;
    uint64_t masses[kEach];
    uint64_t sum = 0;
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      masses[j] = 0;
      if (begin + j >= list.size) continue;
      const float logit = list.logits[begin + j];
      const float weight = list.weight(logit);
      if (kept.has(order_key(logit), list.id(begin + j)) && weight >= kept.floor) {
        masses[j] = mass_of(weight);
      }
      sum += masses[j];
    }
    uint64_t total = 0;
    uint64_t before = exclusive_scan(sum, total, shared.scan);
    if (left < total) {
      if (before <= left && left < before + sum) {  // one thread
#pragma unroll
        for (int j = 0; j < kEach; ++j) {
          if (before <= left && left < before + masses[j]) shared.found = list.id(begin + j);
          before += masses[j];
        }
      }
      break;
    }
    left -= total;
  }
  __syncthreads();
  return shared.found;
}

}  // namespace comet::engine
