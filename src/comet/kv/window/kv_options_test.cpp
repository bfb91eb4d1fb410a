// Rotation and the BF16 window, through KvCache.
#include <gtest/gtest.h>

#include "comet/kv/kv16/kv16.h"
#include "comet/kv/kv4/kv4.h"
#include "comet/kv/kv8/kv8.h"
#include "comet/kv/ragged_case.h"
#include "comet/ops/op_table.h"

namespace comet::kv {
namespace {

using Rows = std::vector<std::vector<float>>;

/// A case whose queries are all of its tokens, run step by step through a cache of one layer.
class CacheRunner {
 public:
  CacheRunner(const KvFormat& format, const KvOptions& options, const RaggedCase& c)
      : cache_(
            KvCache::create(format, c.shape(), 1, c.num_pages, options, num_seqs(c) + 2).value()) {
    for (int32_t s = 0; s < num_seqs(c); ++s) slots_.push_back(num_seqs(c) - s);
  }
  /// `lengths`: how far each step takes every sequence, longer ones cut to the sequence's length.
  /// The outputs of all tokens, sequence after sequence.
  std::vector<float> run(Context& ctx, const RaggedCase& c, const std::vector<int32_t>& lengths) {
    std::vector<std::vector<float>> outs(c.seqs.size());
    std::vector<int32_t> begin(c.seqs.size(), 0);
    for (const int32_t length : lengths) {
      std::vector<int32_t> end;
      for (size_t s = 0; s < c.seqs.size(); ++s)
        end.push_back(std::max(begin[s], std::min(length, c.seqs[s].kv_len)));
      step(ctx, c, begin, end, outs);
      begin = end;
    }
    std::vector<float> out;
    for (const auto& part : outs) out.insert(out.end(), part.begin(), part.end());
    return out;
  }
  std::vector<uint8_t> is_generated;  // of every step

  void gather(const RaggedCase& c, Rows& k, Rows& v) const {
    const RaggedBatch ragged(c.seqs, c.tables);
    for (size_t s = 0; s < c.seqs.size(); ++s) {
      k.emplace_back(c.k[s].size());
      v.emplace_back(c.v[s].size());
      const std::array<int64_t, 3> sizes{c.seqs[s].kv_len, c.kv_heads, c.head_dim};
      cache_.gather(0, {k[s].data(), sizes}, {v[s].data(), sizes}, ragged.batch(),
                    static_cast<int64_t>(s));
    }
  }

 private:
  static int32_t num_seqs(const RaggedCase& c) { return static_cast<int32_t>(c.seqs.size()); }

  void step(Context& ctx, const RaggedCase& c, const std::vector<int32_t>& begin,
            const std::vector<int32_t>& end, std::vector<std::vector<float>>& outs) {
    std::vector<SeqLen> lens;
    std::vector<int32_t> count;
    for (size_t s = 0; s < begin.size(); ++s) {
      count.push_back(end[s] - begin[s]);
      lens.push_back({count[s], end[s]});
    }
    const RaggedBatch ragged(lens, c.tables);
    Batch batch = ragged.batch();
    batch.seq_slots = slots_;
    batch.is_generated = is_generated;
    const int64_t kv_row = c.kv_heads * c.head_dim;
    const int64_t q_row = c.num_heads * c.head_dim;
    std::vector<float> k = RaggedCase::rows(c.k, begin, count, kv_row);
    const std::vector<float> v = RaggedCase::rows(c.v, begin, count, kv_row);
    std::vector<float> q = RaggedCase::rows(c.q, begin, count, q_row);
    const ArenaScope scope(ctx.arena);
    CaseRunner::poison_scratch(ctx);
    const int64_t t = batch.num_tokens();
    const Tensor out =
        cache_.attend(ctx, 0, View<float, 3>(q.data(), {t, c.num_heads, c.head_dim}),
                      View<float, 3>(k.data(), {t, c.kv_heads, c.head_dim}),
                      View<const float, 3>(v.data(), {t, c.kv_heads, c.head_dim}), batch);
    const float* x = out.data<float>();
    for (size_t s = 0; s < begin.size(); x += count[s] * q_row, ++s)
      outs[s].insert(outs[s].end(), x, x + count[s] * q_row);
  }

  KvCache cache_;
  std::vector<int32_t> slots_;
};

RaggedCase whole_sequences(const std::vector<int32_t>& lengths, int64_t heads, int64_t kv_heads,
                           int64_t head_dim, uint64_t seed) {
  std::vector<SeqLen> seqs;
  for (const int32_t length : lengths) seqs.push_back({length, length});
  return {seqs, heads, kv_heads, head_dim, seed};
}

std::vector<int32_t> counting(int32_t from, int32_t to) {
  std::vector<int32_t> steps(static_cast<size_t>(to - from + 1));
  std::iota(steps.begin(), steps.end(), from);
  return steps;
}

Rows bf16_rows(Rows rows) {
  for (auto& row : rows) {
    for (float& x : row) x = to_float(to_bfloat16(x));
  }
  return rows;
}

/// q and k of the case as a rotated cache sees them.
RaggedCase rotated(RaggedCase c) {
  const auto runtime = Runtime::cpu(CpuIsa::kPortable, 1);
  for (Rows* rows : {&c.q, &c.k}) {
    for (auto& row : *rows) {
      for (size_t i = 0; i < row.size(); i += c.head_dim)
        runtime->context().ops.hadamard(row.data() + i, c.head_dim);
    }
  }
  return c;
}

/// The definition: BF16 inside a query's window, the format's values outside.
std::vector<double> windowed_reference(const RaggedCase& c, const CacheRunner& runner,
                                       const KvOptions& options) {
  const Rows wide_k = bf16_rows(c.k);
  const Rows wide_v = bf16_rows(c.v);
  Rows k, v;
  runner.gather(c, k, v);
  return reference_attention_by(c, [&](int64_t position, int64_t key_idx) {
    const bool inside =
        key_idx < options.window_first || key_idx > position - options.window_recent;
    return inside ? KvRowsOfCase{&wide_k, &wide_v} : KvRowsOfCase{&k, &v};
  });
}

double worst_error(const std::vector<float>& out, const std::vector<double>& expected) {
  EXPECT_EQ(out.size(), expected.size());
  double worst = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    const double error = std::abs(out[i] - expected[i]);
    worst = std::isnan(error) ? INFINITY : std::max(worst, error);
  }
  return worst;
}

TEST(KvRotate, ChangesNoAttention) {
  for (const int64_t head_dim : {2, 8, 64, 128, 512}) {
    const RaggedCase c = whole_sequences({70, 1, 33}, 4, 2, head_dim, 7);
    const std::vector<double> expected = reference_attention(c, c.k, c.v);
    for (const CpuIsa isa : available_cpu_isas()) {
      const auto runtime = Runtime::cpu(isa, 2);
      CacheRunner runner(kv32_format(), {.rotate = true}, c);
      const std::vector<float> out = runner.run(runtime->context(), c, {40, 41, 42, 70});
      EXPECT_LT(worst_error(out, expected), 1e-5) << cpu_isa_name(isa) << " " << head_dim;
      Rows k, v;
      runner.gather(c, k, v);
      EXPECT_EQ(k, rotated(c).k);
      EXPECT_EQ(v, c.v);
    }
  }
}

TEST(KvRotate, CodesAreThoseOfRotatedKeys) {
  const RaggedCase c = whole_sequences({70, 1, 33}, 4, 2, 64, 8);
  const RaggedCase turned = rotated(c);
  for (const KvFormat* format : {&kv4_format(), &kv8_format()}) {
    for (const CpuIsa isa : available_cpu_isas()) {
      const auto runtime = Runtime::cpu(isa, 2);
      CacheRunner runner(*format, {.rotate = true}, c);
      const std::vector<float> out = runner.run(runtime->context(), c, {40, 41, 42, 70});
      Rows k, v;
      runner.gather(c, k, v);
      EXPECT_LT(worst_error(out, reference_attention(turned, k, v)), 1e-5) << cpu_isa_name(isa);
      CacheRunner plain(*format, {}, turned);
      plain.run(runtime->context(), turned, {70});
      Rows plain_k, plain_v;
      plain.gather(turned, plain_k, plain_v);
      EXPECT_EQ(k, plain_k);
      EXPECT_EQ(v, plain_v);
    }
  }
}

TEST(KvOptions, BadOnesAreNamed) {
  const auto error_of = [](const KvOptions& options, int64_t head_dim) {
    const auto cache = KvCache::create(kv4_format(), {1, head_dim}, 1, 1, options);
    return cache.ok() ? std::string() : cache.error().message;
  };
  EXPECT_NE(error_of({.rotate = true}, 96).find("kv_cache.rotate"), std::string::npos);
  EXPECT_NE(error_of({.window_first = -1}, 64).find("kv_cache.window"), std::string::npos);
  EXPECT_NE(error_of({.window_recent = -1}, 64).find("kv_cache.window"), std::string::npos);
  EXPECT_NE(error_of({.window_recent = int64_t{1} << 40}, 64).find("kv_cache.window"),
            std::string::npos);
  EXPECT_EQ(error_of({.rotate = true, .window_first = 4, .window_recent = 8}, 64), "");
  EXPECT_TRUE(check_kv_options({.window_first = 4, .window_recent = 6}, 64, 10).ok());
  EXPECT_FALSE(check_kv_options({.window_first = 4, .window_recent = 7}, 64, 10).ok());
}

struct WindowCase {
  std::vector<int32_t> lengths;
  int64_t heads, kv_heads, head_dim;
  int64_t first, recent;
};

std::vector<WindowCase> window_cases() {
  return {
      {{150, 64, 1, 33}, 4, 2, 64, 4, 32}, {{150, 64, 1, 33}, 4, 2, 64, 4, 0},
      {{150, 64, 1, 33}, 4, 2, 64, 0, 8},  {{100, 70}, 6, 1, 80, 1, 1},
      {{100, 70}, 2, 2, 16, 40, 33},       {{100, 7}, 1, 1, 34, 33, 0},
      {{100, 70}, 8, 1, 128, 0, 1},        {{90}, 3, 3, 6, 3, 200},
      {{90, 20}, 4, 2, 32, 200, 5},        {{140}, 70, 1, 8, 5, 64},
  };
}

TEST(KvWindow, MatchesFloat64WhateverTheSteps) {
  uint64_t seed = 100;
  for (const WindowCase& w : window_cases()) {
    const RaggedCase c = whole_sequences(w.lengths, w.heads, w.kv_heads, w.head_dim, seed++);
    const KvOptions options{.window_first = w.first, .window_recent = w.recent};
    std::vector<std::vector<int32_t>> schedules{{200}, {7, 39, 40, 104, 150}, counting(20, 150)};
    schedules[2].insert(schedules[2].begin(), {1, 2});
    for (const KvFormat* format : {&kv32_format(), &kv8_format(), &kv4_format()}) {
      std::vector<double> expected;
      for (const CpuIsa isa : available_cpu_isas()) {
        const auto runtime = Runtime::cpu(isa, 2);
        for (const auto& schedule : schedules) {
          CacheRunner runner(*format, options, c);
          const std::vector<float> out = runner.run(runtime->context(), c, schedule);
          if (expected.empty()) expected = windowed_reference(c, runner, options);
          EXPECT_LT(worst_error(out, expected), 1e-5)
              << format->name << " " << cpu_isa_name(isa) << " window " << w.first << ","
              << w.recent << " head_dim " << w.head_dim << " steps " << schedule.size();
        }
      }
    }
  }
}

TEST(KvWindow, WorksOnRotatedCaches) {
  const RaggedCase c = whole_sequences({100, 45}, 4, 2, 64, 3);
  const RaggedCase turned = rotated(c);
  const KvOptions options{.rotate = true, .window_first = 4, .window_recent = 20};
  for (const CpuIsa isa : available_cpu_isas()) {
    const auto runtime = Runtime::cpu(isa, 2);
    CacheRunner runner(kv4_format(), options, c);
    const std::vector<float> out = runner.run(runtime->context(), c, {30, 31, 32, 33, 90, 100});
    EXPECT_LT(worst_error(out, windowed_reference(turned, runner, options)), 1e-5);
  }
}

TEST(KvWindow, ThreadsChangeNoBit) {
  const RaggedCase c = whole_sequences({300, 200, 50}, 8, 2, 64, 4);
  const KvOptions options{.rotate = true, .window_first = 4, .window_recent = 32};
  for (const CpuIsa isa : available_cpu_isas()) {
    std::vector<float> one;
    for (const int num_threads : {1, 2, 3}) {
      const auto runtime = Runtime::cpu(isa, num_threads);
      CacheRunner runner(kv4_format(), options, c);
      const std::vector<float> out = runner.run(runtime->context(), c, {100, 101, 102, 290, 300});
      if (num_threads == 1) one = out;
      EXPECT_EQ(out, one) << cpu_isa_name(isa) << " " << num_threads;
    }
  }
}

TEST(KvWindow, SlotsOfFinishedSequencesServeOthers) {
  const RaggedCase c = whole_sequences({100, 45}, 4, 2, 64, 5);
  RaggedCase poison = c;
  for (Rows* rows : {&poison.k, &poison.v}) {
    for (auto& row : *rows) std::fill(row.begin(), row.end(), NAN);
  }
  const KvOptions options{.window_first = 4, .window_recent = 20};
  const auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
  CacheRunner runner(kv4_format(), options, c);
  runner.run(runtime->context(), poison, {50, 100});
  const std::vector<float> out = runner.run(runtime->context(), c, {2, 3, 50, 51, 100});
  EXPECT_LT(worst_error(out, windowed_reference(c, runner, options)), 1e-5);
}

TEST(KvWindow, ChangesNothingOnKv16) {
  const RaggedCase c = whole_sequences({100, 45}, 4, 2, 64, 6);
  const KvFormat& kv16 = **find_kv_format("kv16");
  const auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
  const KvOptions options{.window_first = 4, .window_recent = 20};
  CacheRunner plain(kv16, {}, c);
  CacheRunner windowed(kv16, options, c);
  EXPECT_EQ(plain.run(runtime->context(), c, {50, 100}),
            windowed.run(runtime->context(), c, {50, 100}));
  EXPECT_EQ(window_bytes(kv16, c.shape(), options), 0);
  EXPECT_EQ(window_bytes(kv4_format(), c.shape(), options), 24 * 2 * 2 * 64 * 2);
}

/// Runs the case whole, by single tokens and in chunks.
void expect_chunks_change_no_bit(const KvFormat& format, const KvOptions& options,
                                 const RaggedCase& c, CpuIsa isa) {
  const auto runtime = Runtime::cpu(isa, 2);
  for (const uint8_t generated : {0, 1}) {
    CacheRunner whole(format, options, c);
    whole.is_generated = {generated, generated};
    const auto expected = whole.run(runtime->context(), c, {150});
    for (const auto& lengths : {counting(1, 150), std::vector<int32_t>{1, 8, 40, 90, 91, 150}}) {
      CacheRunner chunked(format, options, c);
      chunked.is_generated = {generated, generated};
      EXPECT_EQ(chunked.run(runtime->context(), c, lengths), expected)
          << format.name << " " << cpu_isa_name(isa) << " generated " << int{generated};
    }
  }
}

TEST(KvOptions, ChunksChangeNoBitWhereTheBatchSaysWhatIsGenerated) {
  for (const int64_t head_dim : {64, 80}) {
    const RaggedCase c = whole_sequences({150, 97}, 4, 2, head_dim, 6);
    for (const KvOptions& options :
         {KvOptions{}, KvOptions{.window_first = 3, .window_recent = 40}}) {
      for (const KvFormat* format : {&kv16_format(), &kv8_format(), &kv4_format()}) {
        for (const CpuIsa isa : available_cpu_isas()) {
          expect_chunks_change_no_bit(*format, options, c, isa);
        }
      }
    }
  }
}

TEST(KvWindow, SteadyStepsTakeNoMemory) {
  const RaggedCase c = whole_sequences({1}, 4, 2, 64, 6);
  const KvOptions options{.rotate = true, .window_first = 2, .window_recent = 8};
  auto cache = KvCache::create(kv4_format(), c.shape(), 1, 8, options, 1).value();
  const auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
  Context& ctx = runtime->context();
  const std::vector<std::vector<int32_t>> tables{counting(0, 7)};
  int64_t blocks = 0;
  for (int32_t length = 1; length <= 256; ++length) {
    std::vector<float> q = c.q[0], k = c.k[0];
    const RaggedBatch ragged({{1, length}}, tables);
    Batch batch = ragged.batch();
    const std::array<int32_t, 1> slots{0};
    batch.seq_slots = slots;
    const ArenaScope scope(ctx.arena);
    cache.attend(ctx, 0, View<float, 3>(q.data(), {1, 4, 64}), View<float, 3>(k.data(), {1, 2, 64}),
                 View<const float, 3>(c.v[0].data(), {1, 2, 64}), batch);
    if (length == 2) blocks = ctx.arena.num_blocks_taken();
  }
  EXPECT_EQ(ctx.arena.num_blocks_taken(), blocks);
}

TEST(KvWindow, WrongSlotsThrow) {
  const RaggedCase c = whole_sequences({1, 1}, 1, 1, 8, 6);
  auto cache = KvCache::create(kv4_format(), c.shape(), 1, 2, {.window_first = 1}, 2).value();
  const auto runtime = Runtime::cpu(CpuIsa::kPortable, 1);
  const auto attend = [&](const std::vector<int32_t>& slots) {
    std::vector<float> q(16, 1.0F), k(16, 1.0F);
    const RaggedBatch ragged(c.seqs, c.tables);
    Batch batch = ragged.batch();
    batch.seq_slots = slots;
    const std::array<int64_t, 3> sizes{2, 1, 8};
    cache.attend(runtime->context(), 0, {q.data(), sizes}, {k.data(), sizes}, {k.data(), sizes},
                 batch);
  };
  EXPECT_NO_THROW(attend({1, 0}));
  for (const std::vector<int32_t>& slots : {std::vector<int32_t>{}, {0}, {0, 0}, {0, 2}, {-1, 0}})
    EXPECT_THROW(attend(slots), CheckError);
}

}  // namespace
}  // namespace comet::kv
