#include "bench/roof.h"

#include <emmintrin.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "comet/base/clock.h"
#include "comet/ops/packed_product/packed_product.h"

namespace comet::bench {
namespace {

constexpr int64_t kBufferBytes = int64_t{2} << 30;  // server CPUs have caches of hundreds of MB
constexpr int64_t kTaskBytes = int64_t{4} << 20;
constexpr int kPasses = 5;

/// Touches every byte with eight independent 16-byte streams of additions.
int64_t sum_bytes(const std::byte* data, int64_t bytes) {
  __m128i sums[4] = {};
  for (int64_t i = 0; i < bytes; i += 64) {
    for (int64_t j = 0; j < 4; ++j) {
      const auto* at = reinterpret_cast<const __m128i*>(data + i + 16 * j);
      sums[j] = _mm_add_epi64(sums[j], _mm_load_si128(at));
    }
  }
  const __m128i total =
      _mm_add_epi64(_mm_add_epi64(sums[0], sums[1]), _mm_add_epi64(sums[2], sums[3]));
  return _mm_cvtsi128_si64(total);
}

}  // namespace

double measure_read_gb_per_s(Context& ctx) {
  const Storage buffer(host_allocator(), kBufferBytes);
  const int64_t num_threads = ctx.pool.num_threads();
  const int64_t share = kBufferBytes / num_threads / kTaskBytes * kTaskBytes;
  ctx.pool.parallel_for(num_threads,
                        [&](int64_t i, int) { std::memset(buffer.data() + i * share, 1, share); });
  std::atomic<int64_t> sink{0};
  double best_s = 1e9;
  for (int pass = 0; pass < kPasses; ++pass) {
    const Stopwatch clock;
    ctx.pool.parallel_for(
        num_threads, [&](int64_t i, int) { sink += sum_bytes(buffer.data() + i * share, share); });
    best_s = std::min(best_s, clock.seconds());
  }
  return static_cast<double>(share * num_threads) / best_s / 1e9;
}

double measure_copy_gb_per_s(Context& ctx) {
  const Storage buffer(host_allocator(), kBufferBytes);
  const int64_t num_threads = ctx.pool.num_threads();
  const int64_t share = kBufferBytes / (2 * num_threads) / kTaskBytes * kTaskBytes;
  std::byte* from = buffer.data();
  std::byte* to = buffer.data() + num_threads * share;
  double best_s = 1e9;
  for (int pass = 0; pass < kPasses; ++pass) {  // the first pass maps the pages
    const Stopwatch clock;
    ctx.pool.parallel_for(num_threads, [&](int64_t i, int) {
      std::memcpy(to + i * share, from + i * share, static_cast<size_t>(share));
    });
    if (pass > 0) best_s = std::min(best_s, clock.seconds());
  }
  return static_cast<double>(2 * share * num_threads) / best_s / 1e9;
}

double measure_fma_gmac_per_s(Context& ctx) {
  constexpr int64_t kRounds = 100000;  // about 0.2 ms: short enough to fit between interruptions
  constexpr double kSeconds = 0.5;
  const PackedIsa& isa = packed_isa(ctx.caps.cpu_isa);
  std::atomic<int64_t> num_done{0};
  std::atomic<float> sink{0};
  double best = 0;
  for (const Stopwatch all; all.seconds() < kSeconds;) {
    num_done = 0;
    const Stopwatch clock;
    ctx.pool.parallel_for(ctx.pool.num_threads(), [&](int64_t, int) {
      float sum = 0;
      num_done += isa.spin(kRounds, sum);
      sink = sum;
    });
    best = std::max(best, static_cast<double>(num_done) / clock.seconds() / 1e9);
  }
  return best;
}

}  // namespace comet::bench
