#include "comet/engine/sampling/device_sampler.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>
#include <vector>

#include "comet/base/check.h"
#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/cuda_resources.h"
#include "comet/device/cuda/device_memory.h"
#include "comet/engine/sampling/cuda/sample.h"

namespace comet::engine {
namespace {

constexpr double kGreedyBelow = 1e-5;  // as sampler.cpp
constexpr size_t kLeastBytes = size_t{1} << 16;

/// The same bytes on both sides; grows by doubling.
class MirroredBuffer {
 public:
  void reserve(size_t bytes) {
    if (host_ != nullptr && host_->bytes() >= bytes) return;
    size_t capacity = kLeastBytes;
    while (capacity < bytes) capacity *= 2;
    host_ = std::make_unique<Storage>(pinned_allocator(), capacity);
    device_ = std::make_unique<Storage>(gpu_allocator(), capacity);
  }
  [[nodiscard]] std::byte* host() const { return host_->data(); }
  [[nodiscard]] std::byte* device() const { return device_->data(); }

 private:
  std::unique_ptr<Storage> host_;
  std::unique_ptr<Storage> device_;
};

/// Adds what the request changes, one edit per token.
void append_edits(const DeviceDraw& draw, std::vector<SampleEdit>& edits) {
  const SamplingParams& params = *draw.params;
  if (draw.point.forbidden.empty() && params.logit_bias.empty()) {
    if (!has_penalties(params)) return;
    draw.point.counts.for_each([&](int32_t token, int64_t num_output) {
      edits.push_back({token, 0.0F, static_cast<int32_t>(num_output), 0});
    });
    return;
  }
  std::unordered_map<int32_t, SampleEdit> by_token;
  const auto edit_of = [&](int32_t token) -> SampleEdit& {
    SampleEdit& edit = by_token[token];
    edit.token = token;
    return edit;
  };
  for (const int32_t token : draw.point.forbidden) edit_of(token).is_forbidden = 1;
  for (const auto& [token, bias] : params.logit_bias) edit_of(token).bias += bias;
  if (has_penalties(params)) {
    draw.point.counts.for_each([&](int32_t token, int64_t num_output) {
      edit_of(token).num_output = static_cast<int32_t>(num_output);
    });
  }
  for (const auto& [token, edit] : by_token) edits.push_back(edit);
}

SampleRow row_of(const DeviceDraw& draw) {
  const SamplingParams& params = *draw.params;
  SampleRow row;
  row.top_p = params.top_p;
  row.repetition_penalty = params.repetition_penalty;
  row.presence_penalty = params.presence_penalty;
  row.frequency_penalty = params.frequency_penalty;
  row.seed = params.seed;
  row.counter = draw.point.position;
  row.scale =
      params.temperature < kGreedyBelow ? 0.0F : static_cast<float>(1.0 / params.temperature);
  row.min_p = static_cast<float>(params.min_p);
  row.top_k = static_cast<int32_t>(std::min<int64_t>(params.top_k, kMaxSampleVocab));
  return row;
}

}  // namespace

struct DeviceSampler::State {
  explicit State(Context& context) : ctx(context) {}

  Context& ctx;
  MirroredBuffer input;   // rows, then edits
  MirroredBuffer output;  // tokens, then logprobs
  std::vector<SampleRow> rows;
  std::vector<SampleEdit> edits;
  std::vector<DrawnToken> drawn;
  bool is_running = false;

  [[nodiscard]] SampleArgs args_of(const Tensor& logits) const;
};

/// Everything but the workspace.
SampleArgs DeviceSampler::State::args_of(const Tensor& logits) const {
  SampleArgs args;
  args.logits = logits.data<float>();
  args.stride = logits.stride(0);
  args.rows = static_cast<int32_t>(logits.size(0));
  args.vocab = static_cast<int32_t>(logits.size(1));
  args.num_edits = static_cast<int32_t>(edits.size());
  args.has_draws =
      std::any_of(rows.begin(), rows.end(), [](const SampleRow& row) { return row.scale > 0; });
  args.params = reinterpret_cast<const SampleRow*>(input.device());
  args.edits =
      reinterpret_cast<const SampleEdit*>(input.device() + rows.size() * sizeof(SampleRow));
  args.tokens = reinterpret_cast<int32_t*>(output.device());
  args.logprobs = reinterpret_cast<float*>(output.device()) + args.rows;
  return args;
}

DeviceSampler::DeviceSampler(Context& ctx) : state_(std::make_unique<State>(ctx)) {
  COMET_CHECK(ctx.cuda != nullptr);
}

DeviceSampler::~DeviceSampler() = default;

void DeviceSampler::start(const Tensor& logits, std::span<const DeviceDraw> draws) {
  State& s = *state_;
  COMET_CHECK(!s.is_running, "wait() first: its buffers are in use");
  COMET_CHECK(logits.shape().rank() == 2 && logits.stride(1) == 1 && logits.size(1) >= 1 &&
                  logits.size(1) <= kMaxSampleVocab &&
                  logits.size(0) == static_cast<int64_t>(draws.size()),
              "logits {} for {} draws", logits.shape().to_string(), draws.size());
  s.rows.clear();
  s.edits.clear();
  for (const DeviceDraw& draw : draws) {
    SampleRow row = row_of(draw);
    row.edits_begin = static_cast<int32_t>(s.edits.size());
    append_edits(draw, s.edits);
    row.edits_end = static_cast<int32_t>(s.edits.size());
    s.rows.push_back(row);
  }
  s.is_running = true;
  if (draws.empty()) return;
  const size_t row_bytes = s.rows.size() * sizeof(SampleRow);
  const size_t edit_bytes = s.edits.size() * sizeof(SampleEdit);
  s.input.reserve(row_bytes + edit_bytes);
  s.output.reserve(draws.size() * sizeof(DrawnToken));
  std::memcpy(s.input.host(), s.rows.data(), row_bytes);
  if (edit_bytes > 0) std::memcpy(s.input.host() + row_bytes, s.edits.data(), edit_bytes);
  cudaStream_t stream = s.ctx.cuda->stream;
  COMET_CUDA(cudaMemcpyAsync(s.input.device(), s.input.host(), row_bytes + edit_bytes,
                             cudaMemcpyHostToDevice, stream));
  SampleArgs args = s.args_of(logits);
  // Later users of the arena come behind these kernels on the stream.
  const ArenaScope scope(s.ctx.arena);
  args.workspace =
      s.ctx.arena.alloc(DType::kU8, {sample_workspace_bytes(args.rows, args.vocab, args.num_edits)})
          .raw();
  launch_sample(args, stream);
  COMET_CUDA(cudaMemcpyAsync(s.output.host(), s.output.device(), draws.size() * sizeof(DrawnToken),
                             cudaMemcpyDeviceToHost, stream));
}

const int32_t* DeviceSampler::device_tokens() const {
  return reinterpret_cast<const int32_t*>(state_->output.device());
}

std::span<const DrawnToken> DeviceSampler::wait() {
  State& s = *state_;
  COMET_CHECK(s.is_running, "start() first");
  COMET_CUDA(cudaStreamSynchronize(s.ctx.cuda->stream));
  s.is_running = false;
  s.drawn.resize(s.rows.size());
  for (size_t i = 0; i < s.drawn.size(); ++i) {
    std::memcpy(&s.drawn[i].token, s.output.host() + 4 * i, 4);
    std::memcpy(&s.drawn[i].logprob, s.output.host() + 4 * (s.drawn.size() + i), 4);
  }
  return s.drawn;
}

}  // namespace comet::engine
