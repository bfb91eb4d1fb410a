#include "comet/study/tasks/score/likelihood.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "comet/engine/sampling/logprobs.h"
#include "comet/study/tasks/data/python_text.h"

namespace comet::study {
namespace {

constexpr int64_t kStepTokens = 512;  // of several groups in a step; one alone may have more
constexpr int64_t kMaxLogitBytes = int64_t{64} << 20;  // of a step; one request may need more
constexpr int64_t kMaxSeqs = 256;                      // of a step

int64_t pages_for(int64_t num_tokens) {
  return (num_tokens + kv::kPageTokens - 1) / kv::kPageTokens;
}

/// A request's tokens as the model reads them: the last one is only a target.
std::span<const int32_t> inputs_of(const LikelihoodRequest& request) {
  return std::span(request.tokens).first(request.tokens.size() - 1);
}

bool equal_inputs(const LikelihoodRequest& a, const LikelihoodRequest& b) {
  return a.num_prompt == b.num_prompt && std::ranges::equal(inputs_of(a), inputs_of(b));
}

/// What a row of logits says of all its targets.
struct RowTotal {
  double log_sum = 0;
  float max = 0;
};

}  // namespace

LikelihoodRequest encode_pair(const text::Tokenizer& tokenizer, std::string_view prompt,
                              std::string_view continuation, const EncodeRules& rules) {
  const text::EncodeOptions options{.add_special_tokens = rules.add_bos, .parse_special = true};
  const std::string_view stripped = python_rstrip(prompt);
  const std::string rest = std::string(prompt.substr(stripped.size())).append(continuation);
  LikelihoodRequest request;
  if (stripped.empty()) {
    request.tokens = tokenizer.encode(rest, {.add_special_tokens = false, .parse_special = true});
    if (request.tokens.empty() || request.tokens.front() != rules.prefix_token) {
      request.tokens.insert(request.tokens.begin(), rules.prefix_token);
    }
    request.num_prompt = 1;
  } else {
    request.tokens = tokenizer.encode(std::string(stripped) + rest, options);
    request.num_prompt = std::min(static_cast<int64_t>(tokenizer.encode(stripped, options).size()),
                                  static_cast<int64_t>(request.tokens.size()));
  }
  if (request.tokens.empty()) request.tokens.push_back(rules.prefix_token);
  const int64_t cut =
      std::max<int64_t>(0, static_cast<int64_t>(request.tokens.size()) - rules.max_length);
  request.tokens.erase(request.tokens.begin(), request.tokens.begin() + cut);
  request.num_prompt = std::max<int64_t>(1, request.num_prompt - cut);
  return request;
}

Result<std::unique_ptr<LikelihoodScorer>> LikelihoodScorer::create(Context& ctx,
                                                                   const models::LlamaModel& model,
                                                                   int64_t max_length) {
  // Every sequence of a step may end in a page that is not full.
  const int64_t num_pages = pages_for(max_length + kStepTokens) + kMaxSeqs;
  auto cache = model.make_cache(ctx, num_pages, kMaxSeqs);
  if (!cache) return cache.error();
  return std::unique_ptr<LikelihoodScorer>(
      new LikelihoodScorer(ctx, model, max_length, *std::move(cache)));
}

LikelihoodScorer::LikelihoodScorer(Context& ctx, const models::LlamaModel& model,
                                   int64_t max_length, kv::KvCache cache)
    : ctx_(ctx), model_(model), max_length_(max_length), cache_(std::move(cache)) {}

/// One forward pass: sequences, each with the answers that its rows give.
struct LikelihoodScorer::Step {
  struct Target {
    const LikelihoodRequest* request;
    Likelihood* answer;
  };
  struct Sequence {
    std::span<const int32_t> tokens;
    int64_t begin = 0;      // first position of this step
    int64_t first_row = 0;  // first position whose logits are wanted
    std::vector<int32_t> pages;
    std::vector<Target> targets;

    [[nodiscard]] int64_t end() const { return static_cast<int64_t>(tokens.size()); }
    [[nodiscard]] int64_t num_rows() const { return std::max<int64_t>(0, end() - first_row); }
  };

  std::vector<Sequence> sequences;
  int64_t num_tokens = 0;
  int64_t num_rows = 0;
  int32_t num_pages = 0;

  void add(Sequence sequence) {
    const auto num_shared = static_cast<int64_t>(sequence.pages.size());
    for (int64_t i = num_shared; i < pages_for(sequence.end()); ++i) {
      sequence.pages.push_back(num_pages++);
    }
    num_tokens += sequence.end() - sequence.begin;
    num_rows += sequence.num_rows();
    sequences.push_back(std::move(sequence));
  }
  [[nodiscard]] bool is_within(int64_t max_tokens, int64_t max_rows) const {
    return num_tokens <= max_tokens && num_rows <= max_rows &&
           sequences.size() <= static_cast<size_t>(kMaxSeqs);
  }
  /// Behind what is here already.
  void append(Step&& more) {
    for (Sequence& sequence : more.sequences) {
      for (int32_t& page : sequence.pages) page += num_pages;
      sequences.push_back(std::move(sequence));
    }
    num_tokens += more.num_tokens;
    num_rows += more.num_rows;
    num_pages += more.num_pages;
  }
};

/// Requests with equal inputs become one sequence, a common beginning one of its own.
LikelihoodScorer::Step LikelihoodScorer::plan(std::span<const LikelihoodRequest> requests,
                                              std::span<Likelihood> answers) const {
  std::vector<Step::Sequence> distinct;
  for (size_t i = 0; i < requests.size(); ++i) {
    const LikelihoodRequest& request = requests[i];
    if (request.num_targets() == 0) continue;  // 0 and greedy, as lm-eval has it
    COMET_CHECK(
        static_cast<int64_t>(request.tokens.size()) <= max_length_ && request.num_prompt >= 1,
        "{} tokens, {} of the prompt", request.tokens.size(), request.num_prompt);
    const Step::Target target{&request, &answers[i]};
    const auto same = std::ranges::find_if(distinct, [&](const Step::Sequence& other) {
      return equal_inputs(request, *other.targets.front().request);
    });
    if (same != distinct.end()) {
      same->targets.push_back(target);
    } else {
      distinct.push_back({inputs_of(request), 0, request.num_prompt - 1, {}, {target}});
    }
  }
  Step step;
  if (distinct.size() > 1 && model_.window_bytes_per_slot() == 0) {
    int64_t shared = distinct.front().first_row;
    for (const Step::Sequence& other : distinct) {
      const auto at = std::ranges::mismatch(distinct.front().tokens, other.tokens).in2;
      shared = std::min({shared, other.first_row, static_cast<int64_t>(at - other.tokens.begin())});
    }
    shared = shared / kv::kPageTokens * kv::kPageTokens;
    if (shared > 0) {
      step.add({distinct.front().tokens.first(shared), 0, shared, {}, {}});
      for (Step::Sequence& sequence : distinct) {
        sequence.begin = shared;
        sequence.pages = step.sequences.front().pages;
      }
    }
  }
  for (Step::Sequence& sequence : distinct) step.add(std::move(sequence));
  return step;
}

Status LikelihoodScorer::run(const Step& step) {
  if (step.sequences.empty()) return {};
  std::vector<int32_t> tokens, positions, cu_seqlens{0}, kv_lens, rows, slots;
  size_t max_pages = 1;
  for (const Step::Sequence& sequence : step.sequences) {
    for (int64_t i = sequence.begin; i < sequence.end(); ++i) {
      if (i >= sequence.first_row) rows.push_back(static_cast<int32_t>(tokens.size()));
      tokens.push_back(sequence.tokens[i]);
      positions.push_back(static_cast<int32_t>(i));
    }
    cu_seqlens.push_back(static_cast<int32_t>(tokens.size()));
    kv_lens.push_back(static_cast<int32_t>(sequence.end()));
    slots.push_back(static_cast<int32_t>(slots.size()));
    max_pages = std::max(max_pages, sequence.pages.size());
  }
  const size_t num_seqs = step.sequences.size();
  std::vector<int32_t> block_tables(num_seqs * max_pages, -1);
  for (size_t i = 0; i < num_seqs; ++i) {
    std::ranges::copy(step.sequences[i].pages,
                      block_tables.begin() + static_cast<int64_t>(i * max_pages));
  }
  // Nothing is generated: attention adds up in the order of prompts whatever the cut.
  const std::vector<uint8_t> is_generated(num_seqs, 0);
  const Batch batch{
      tokens,
      positions,
      cu_seqlens,
      kv_lens,
      {block_tables.data(), {static_cast<int64_t>(num_seqs), static_cast<int64_t>(max_pages)}},
      rows,
      slots,
      is_generated};
  const ArenaScope scope(ctx_.arena);
  const Tensor tensor = copy_to_host(ctx_, model_.forward(ctx_, batch, cache_));
  const View<float, 2> logits = tensor.view<float, 2>();
  std::vector<RowTotal> totals(rows.size());
  ctx_.pool.parallel_for(static_cast<int64_t>(rows.size()), [&](int64_t i, int) {
    const std::span<const float> row(logits.row(i), logits.size(1));
    totals[i] = {engine::log_sum_exp(row), *std::ranges::max_element(row)};
  });
  int64_t row_idx = 0;
  for (const Step::Sequence& sequence : step.sequences) {
    for (int64_t i = sequence.first_row; i < sequence.end(); ++i, ++row_idx) {
      const RowTotal& total = totals[row_idx];
      if (!std::isfinite(total.log_sum)) {
        return make_error(ErrorCode::kCorrupt, "the model's logits became NaN or infinite");
      }
      for (const Step::Target& target : sequence.targets) {
        const float logit = logits(row_idx, target.request->tokens[i + 1]);
        // In FP32 a token, as servers give it, and summed in double, as lm-eval does.
        target.answer->log_prob += static_cast<float>(logit - total.log_sum);
        target.answer->is_greedy = target.answer->is_greedy && logit >= total.max;
      }
    }
  }
  return {};
}

Result<std::vector<std::vector<Likelihood>>> LikelihoodScorer::score(
    std::span<const Group> groups) {
  const int64_t row_bytes = model_.config().vocab_size * static_cast<int64_t>(sizeof(float));
  const int64_t max_rows = std::max<int64_t>(1, kMaxLogitBytes / row_bytes);
  std::vector<std::vector<Likelihood>> answers;
  for (const Group& group : groups) answers.emplace_back(group.size());
  Step step;
  for (size_t g = 0; g < groups.size(); ++g) {
    const std::span<const LikelihoodRequest> requests(groups[g]);
    const std::span<Likelihood> group_answers(answers[g]);
    for (size_t begin = 0; begin < requests.size();) {
      // As many of the group's requests at once as a step holds, but one at least.
      size_t count = requests.size() - begin;
      Step more = plan(requests.subspan(begin, count), group_answers.subspan(begin, count));
      while (count > 1 && !more.is_within(max_length_ + kStepTokens, max_rows)) {
        count = (count + 1) / 2;
        more = plan(requests.subspan(begin, count), group_answers.subspan(begin, count));
      }
      if (!step.is_within(kStepTokens - more.num_tokens, max_rows - more.num_rows) ||
          step.sequences.size() + more.sequences.size() > static_cast<size_t>(kMaxSeqs)) {
        if (const Status status = run(step); !status) return status.error();
        step = {};
      }
      step.append(std::move(more));
      begin += count;
    }
  }
  if (const Status status = run(step); !status) return status.error();
  return answers;
}

}  // namespace comet::study
