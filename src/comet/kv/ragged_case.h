// For the tests of this room: a ragged batch with its own page tables (pages in random order), and
// attention in float64 from the definition.
#pragma once

#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "comet/base/rng.h"
#include "comet/kv/kv_cache.h"

namespace comet::kv {

struct SeqLen {
  int32_t num_queries = 0;
  int32_t kv_len = 0;  // the queries are the last tokens of it
};

/// Owns the arrays of a Batch.
struct RaggedBatch {
  std::vector<int32_t> tokens, positions, cu_seqlens{0}, kv_lens, tables;
  int64_t max_pages = 1;

  /// `all_tables` [seq][page]; the same for every step of a case.
  RaggedBatch(const std::vector<SeqLen>& seqs,
              const std::vector<std::vector<int32_t>>& all_tables) {
    for (const auto& table : all_tables)
      max_pages = std::max(max_pages, static_cast<int64_t>(table.size()));
    for (size_t s = 0; s < seqs.size(); ++s) {
      for (int32_t i = 0; i < seqs[s].num_queries; ++i)
        positions.push_back(seqs[s].kv_len - seqs[s].num_queries + i);
      cu_seqlens.push_back(static_cast<int32_t>(positions.size()));
      kv_lens.push_back(seqs[s].kv_len);
      std::vector<int32_t> row = all_tables[s];
      row.resize(static_cast<size_t>(max_pages), -1);
      tables.insert(tables.end(), row.begin(), row.end());
    }
    tokens.assign(positions.size(), 0);
  }
  [[nodiscard]] Batch batch() const {
    Batch b;
    b.tokens = tokens;
    b.positions = positions;
    b.cu_seqlens = cu_seqlens;
    b.kv_lens = kv_lens;
    b.block_tables =
        View<const int32_t, 2>(tables.data(), {static_cast<int64_t>(kv_lens.size()), max_pages});
    return b;
  }
};

/// K and V of whole sequences, q of the last tokens.
struct RaggedCase {
  std::vector<SeqLen> seqs;
  int64_t num_heads, kv_heads, head_dim;
  std::vector<std::vector<float>> k, v, q;   // per sequence, [kv_len | num_queries, heads, dim]
  std::vector<std::vector<int32_t>> tables;  // pages in random order
  int64_t num_pages = 0;

  RaggedCase(std::vector<SeqLen> lens, int64_t heads, int64_t kv_head_count, int64_t dim,
             uint64_t seed)
      : seqs(std::move(lens)), num_heads(heads), kv_heads(kv_head_count), head_dim(dim) {
    Rng rng(seed);
    const auto fill = [&](int64_t n, float spread) {
      std::vector<float> x(static_cast<size_t>(n));
      for (float& value : x) value = spread * rng.next_normal();
      return x;
    };
    for (const SeqLen& s : seqs) num_pages += (s.kv_len + kPageTokens - 1) / kPageTokens;
    std::vector<int32_t> ids(static_cast<size_t>(num_pages));
    std::iota(ids.begin(), ids.end(), 0);
    for (size_t i = ids.size(); i > 1; --i) std::swap(ids[i - 1], ids[rng.next_below(i)]);
    size_t next = 0;
    for (const SeqLen& s : seqs) {
      k.push_back(fill(s.kv_len * kv_heads * head_dim, 1.5F));
      v.push_back(fill(s.kv_len * kv_heads * head_dim, 1.0F));
      q.push_back(fill(s.num_queries * num_heads * head_dim, 1.5F));
      const size_t pages = static_cast<size_t>((s.kv_len + kPageTokens - 1) / kPageTokens);
      tables.emplace_back(ids.begin() + next, ids.begin() + next + pages);
      next += pages;
    }
  }
  [[nodiscard]] KvShape shape() const { return {kv_heads, head_dim}; }
  /// Rows [begin, begin + count) of each sequence's x, one after another.
  static std::vector<float> rows(const std::vector<std::vector<float>>& x,
                                 const std::vector<int32_t>& begin,
                                 const std::vector<int32_t>& count, int64_t row_floats) {
    std::vector<float> out;
    for (size_t s = 0; s < x.size(); ++s) {
      const float* first = x[s].data() + begin[s] * row_floats;
      out.insert(out.end(), first, first + count[s] * row_floats);
    }
    return out;
  }
};

/// A page store of one layer, poisoned with NaN, and runs of a case through it.
class CaseRunner {
 public:
  CaseRunner(const KvFormat& format, const RaggedCase& c) : format_(format), case_(c) {
    pages_.resize(static_cast<size_t>(c.num_pages * format.page_bytes(c.shape()) / 64));
    std::memset(pages_.data(), 0xFF, pages_.size() * 64);
  }
  [[nodiscard]] std::byte* pages() { return reinterpret_cast<std::byte*>(pages_.data()); }
  [[nodiscard]] int64_t num_bytes() const { return static_cast<int64_t>(pages_.size()) * 64; }

  /// Appends tokens [begin, end) of each sequence and, when `out` is given, attends with their
  /// queries (which must then exist), writing [tokens, heads · dim].
  int64_t step(Context& ctx, const std::vector<int32_t>& begin, const std::vector<int32_t>& end,
               std::vector<float>* out) {
    std::vector<SeqLen> lens;
    std::vector<int32_t> count, q_begin;
    for (size_t s = 0; s < case_.seqs.size(); ++s) {
      lens.push_back({end[s] - begin[s], end[s]});
      count.push_back(end[s] - begin[s]);
      q_begin.push_back(begin[s] - (case_.seqs[s].kv_len - case_.seqs[s].num_queries));
    }
    const RaggedBatch ragged(lens, case_.tables);
    const Batch batch = ragged.batch();
    const int64_t t = batch.num_tokens();
    const std::vector<float> k =
        RaggedCase::rows(case_.k, begin, count, case_.kv_heads * case_.head_dim);
    const std::vector<float> v =
        RaggedCase::rows(case_.v, begin, count, case_.kv_heads * case_.head_dim);
    const int64_t saturated =
        format_.append(ctx, case_.shape(), pages(),
                       View<const float, 3>(k.data(), {t, case_.kv_heads, case_.head_dim}),
                       View<const float, 3>(v.data(), {t, case_.kv_heads, case_.head_dim}), batch);
    if (out == nullptr) return saturated;
    const std::vector<float> q =
        RaggedCase::rows(case_.q, q_begin, count, case_.num_heads * case_.head_dim);
    poison_scratch(ctx);
    const int64_t row = case_.num_heads * case_.head_dim;
    out->assign(static_cast<size_t>(t * row), NAN);
    format_.attend(ctx, case_.shape(), {pages(), {}}, View<float, 2>(out->data(), {t, row}),
                   View<const float, 3>(q.data(), {t, case_.num_heads, case_.head_dim}), batch);
    return saturated;
  }
  /// Everything before the queries in one step, then the queries.
  std::vector<float> run(Context& ctx) {
    std::vector<int32_t> zero, before, all;
    for (const SeqLen& s : case_.seqs) {
      zero.push_back(0);
      before.push_back(s.kv_len - s.num_queries);
      all.push_back(s.kv_len);
    }
    step(ctx, zero, before, nullptr);
    std::vector<float> out;
    step(ctx, before, all, &out);
    return out;
  }
  /// The cache's content as FP32, per sequence.
  void gather(std::vector<std::vector<float>>& k, std::vector<std::vector<float>>& v) {
    const RaggedBatch ragged(case_.seqs, case_.tables);
    for (size_t s = 0; s < case_.seqs.size(); ++s) {
      const int64_t len = case_.seqs[s].kv_len;
      k.emplace_back(case_.k[s].size(), NAN);
      v.emplace_back(case_.v[s].size(), NAN);
      format_.gather(case_.shape(), pages(),
                     View<float, 3>(k[s].data(), {len, case_.kv_heads, case_.head_dim}),
                     View<float, 3>(v[s].data(), {len, case_.kv_heads, case_.head_dim}),
                     ragged.batch(), static_cast<int64_t>(s));
    }
  }
  static void poison_scratch(Context& ctx) {
    const ArenaScope scope(ctx.arena);
    const int64_t n = int64_t{1} << 17;
    std::memset(ctx.arena.alloc_array<float>(n), 0xFF, static_cast<size_t>(n) * 4);
  }

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  const KvFormat& format_;
  const RaggedCase& case_;
  std::vector<Line> pages_;
};

/// Softmax attention in float64; rows_of(position, key_idx) says whose K and V ([seq] of [kv_len,
/// kv_heads, head_dim]) the query at that position reads for a key.
struct KvRowsOfCase {
  const std::vector<std::vector<float>>* k;
  const std::vector<std::vector<float>>* v;
};
template <typename RowsOf>
std::vector<double> reference_attention_by(const RaggedCase& c, const RowsOf& rows_of) {
  std::vector<double> out;
  const int64_t group = c.num_heads / c.kv_heads;
  for (size_t s = 0; s < c.seqs.size(); ++s) {
    const SeqLen len = c.seqs[s];
    for (int64_t i = 0; i < len.num_queries * c.num_heads; ++i) {
      const int64_t position = len.kv_len - len.num_queries + i / c.num_heads;
      const int64_t kv_head = i % c.num_heads / group;
      const float* q = c.q[s].data() + i * c.head_dim;
      const auto row = [&](const std::vector<std::vector<float>>& x, int64_t t) {
        return x[s].data() + (t * c.kv_heads + kv_head) * c.head_dim;
      };
      std::vector<double> p(static_cast<size_t>(position + 1));
      double high = -INFINITY;
      for (int64_t t = 0; t <= position; ++t) {
        const float* key = row(*rows_of(position, t).k, t);
        for (int64_t d = 0; d < c.head_dim; ++d) p[t] += static_cast<double>(q[d]) * key[d];
        p[t] /= std::sqrt(static_cast<double>(c.head_dim));
        high = std::max(high, p[t]);
      }
      double sum = 0;
      for (double& x : p) sum += x = std::exp(x - high);
      std::vector<double> result(static_cast<size_t>(c.head_dim), 0.0);
      for (int64_t t = 0; t <= position; ++t) {
        const float* value = row(*rows_of(position, t).v, t);
        for (int64_t d = 0; d < c.head_dim; ++d) result[d] += p[t] / sum * value[d];
      }
      out.insert(out.end(), result.begin(), result.end());
    }
  }
  return out;
}
inline std::vector<double> reference_attention(const RaggedCase& c,
                                               const std::vector<std::vector<float>>& k,
                                               const std::vector<std::vector<float>>& v) {
  return reference_attention_by(c, [&](int64_t, int64_t) { return KvRowsOfCase{&k, &v}; });
}

}  // namespace comet::kv
