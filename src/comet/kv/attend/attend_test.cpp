#include <gtest/gtest.h>

#include "comet/kv/kv16/kv16.h"
#include "comet/kv/kv4/kv4.h"
#include "comet/kv/kv8/kv8.h"
#include "comet/kv/kv8_fp8/kv8_fp8.h"
#include "comet/kv/ragged_case.h"

namespace comet::kv {
namespace {

const std::vector<const KvFormat*>& all_formats() {
  static const std::vector<const KvFormat*> formats{&kv32_format(), &kv16_format(), &kv8_format(),
                                                    &kv8_fp8_format(), &kv4_format()};
  return formats;
}

/// The largest difference; infinity when anything is NaN.
double worst_error(const std::vector<float>& out, const std::vector<double>& expected) {
  EXPECT_EQ(out.size(), expected.size());
  double worst = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    const double error = std::abs(out[i] - expected[i]);
    worst = std::isnan(error) ? INFINITY : std::max(worst, error);
  }
  return worst;
}

struct Geometry {
  int64_t heads, kv_heads, head_dim;
};

std::vector<RaggedCase> cases() {
  const std::vector<SeqLen> decode{{1, 1}, {1, 31}, {1, 32}, {1, 33}, {1, 200}};
  const std::vector<SeqLen> mixed{{70, 70}, {1, 100}, {0, 40}, {17, 90}, {5, 5}, {130, 161}};
  std::vector<RaggedCase> all;
  uint64_t seed = 1;
  for (const Geometry& g : std::vector<Geometry>{{4, 2, 64},
                                                 {8, 1, 128},
                                                 {3, 1, 80},
                                                 {5, 5, 6},
                                                 {6, 1, 2},
                                                 {7, 1, 34},
                                                 {8, 2, 16},
                                                 {2, 1, 256}}) {
    all.emplace_back(decode, g.heads, g.kv_heads, g.head_dim, seed++);
    all.emplace_back(mixed, g.heads, g.kv_heads, g.head_dim, seed++);
  }
  all.emplace_back(std::vector<SeqLen>{{2, 40}}, 70, 1, 8, seed++);  // a group above kTaskRows
  all.emplace_back(std::vector<SeqLen>{{3, 35}}, 2, 2, 512, seed++);
  return all;
}

TEST(Attend, MatchesFloat64OnEveryIsa) {
  for (const RaggedCase& c : cases()) {
    for (const KvFormat* format : all_formats()) {
      std::vector<double> expected;
      for (const CpuIsa isa : available_cpu_isas()) {
        const auto runtime = Runtime::cpu(isa, 2);
        CaseRunner runner(*format, c);
        const std::vector<float> out = runner.run(runtime->context());
        if (expected.empty()) {
          std::vector<std::vector<float>> k, v;
          runner.gather(k, v);
          if (format == &kv32_format()) {
            ASSERT_EQ(k, c.k);
            ASSERT_EQ(v, c.v);
          }
          expected = reference_attention(c, k, v);
        }
        EXPECT_LT(worst_error(out, expected), 1e-5)
            << format->name << " " << cpu_isa_name(isa) << " heads " << c.num_heads << "/"
            << c.kv_heads << " head_dim " << c.head_dim << " sequences " << c.seqs.size();
      }
    }
  }
}

TEST(Attend, ThreadsChangeNoBit) {
  const RaggedCase c({{100, 130}, {1, 500}, {33, 33}}, 8, 2, 64, 77);
  for (const KvFormat* format : all_formats()) {
    for (const CpuIsa isa : available_cpu_isas()) {
      std::vector<float> one;
      for (const int num_threads : {1, 2, 3}) {
        CaseRunner runner(*format, c);
        const std::vector<float> out = runner.run(Runtime::cpu(isa, num_threads)->context());
        if (num_threads == 1) one = out;
        EXPECT_EQ(out, one) << num_threads;
      }
    }
  }
}

TEST(Attend, ChunkedPrefillEqualsOneShot) {
  const RaggedCase c({{150, 150}, {64, 64}}, 4, 2, 64, 5);
  for (const CpuIsa isa : available_cpu_isas()) {
    const auto runtime = Runtime::cpu(isa, 2);
    CaseRunner whole(kv32_format(), c);
    const std::vector<float> expected = whole.run(runtime->context());
    CaseRunner chunked(kv32_format(), c);
    std::vector<std::vector<float>> parts(2);
    const int64_t row = c.num_heads * c.head_dim;
    std::vector<int32_t> done{0, 0};
    for (const int32_t chunk : {1, 7, 32, 50, 60}) {
      std::vector<int32_t> end{done[0] + chunk, std::min(64, done[1] + chunk)};
      std::vector<float> out;
      chunked.step(runtime->context(), done, end, &out);
      const auto cut = out.begin() + chunk * row;
      parts[0].insert(parts[0].end(), out.begin(), cut);
      parts[1].insert(parts[1].end(), cut, out.end());
      done = end;
    }
    ASSERT_EQ(done, (std::vector<int32_t>{150, 64}));
    parts[0].insert(parts[0].end(), parts[1].begin(), parts[1].end());
    const std::vector<double> wide(expected.begin(), expected.end());
    EXPECT_LT(worst_error(parts[0], wide), 1e-5) << cpu_isa_name(isa);
  }
}

TEST(Attend, LargeScoresDoNotOverflow) {
  RaggedCase c({{1, 70}, {20, 70}}, 2, 1, 64, 9);
  for (auto& q : c.q) {
    for (float& x : q) x *= 200.0F;
  }
  for (const CpuIsa isa : available_cpu_isas()) {
    CaseRunner runner(kv32_format(), c);
    const std::vector<float> out = runner.run(Runtime::cpu(isa, 1)->context());
    EXPECT_LT(worst_error(out, reference_attention(c, c.k, c.v)), 2e-3) << cpu_isa_name(isa);
  }
}

TEST(Attend, BrokenGeometryThrows) {
  const RaggedCase c({{1, 4}}, 3, 1, 8, 1);
  RaggedCase wrong = c;
  wrong.kv_heads = 2;  // 3 query heads do not divide into 2
  const auto runtime = Runtime::cpu(CpuIsa::kPortable, 1);
  wrong.k[0].resize(4 * 2 * 8);
  wrong.v[0].resize(4 * 2 * 8);
  CaseRunner runner(kv32_format(), wrong);
  EXPECT_THROW(runner.run(runtime->context()), CheckError);
}

}  // namespace
}  // namespace comet::kv
