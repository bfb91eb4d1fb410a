#include "bench/op_bench.h"

#include <algorithm>

#include "comet/base/rng.h"
#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/cuda_resources.h"
#include "comet/engine/sampling/cuda/sample.h"
#include "comet/formats/cuda/producer.h"
#include "comet/ops/cuda/launches.h"
#include "comet/ops/fill/cuda/fill.h"

namespace comet::bench {
namespace {

using ops_cuda::FloatHeads;
using ops_cuda::FloatRows;
using ops_cuda::FloatType;

/// Small activations stay in L2 in a model too; thousands of them would only make long graphs.
constexpr int64_t kMaxBuffers = 256;

/// Several matrices [rows, n] of normal values, so many that together they exceed L2.
class Rotating {
 public:
  Rotating(Context& ctx, FloatType type, int64_t rows, int64_t n)
      : type_(type), n_(n), bytes_(rows * n * (type == FloatType::kF32 ? 4 : 2)) {
    num_ = std::min(num_rotating_buffers(bytes_), kMaxBuffers);
    padded_ = (bytes_ + 255) / 256 * 256;
    storage_ = std::make_unique<Storage>(ctx.memory, static_cast<size_t>(num_ * padded_));
    // The upper half of a normal FP32 is a normal BF16; whatever is in the lower half.
    std::vector<uint16_t> table(ops_cuda::kRandomTableSize);
    Rng rng(1);
    for (uint16_t& value : table) value = to_bfloat16(rng.next_normal()).bits;
    Tensor host(std::make_shared<Storage>(host_allocator(), table.size() * 2), 0, DType::kBF16,
                {ops_cuda::kRandomTableSize});
    std::copy(table.begin(), table.end(), reinterpret_cast<uint16_t*>(host.raw()));
    const Tensor device = copy_to_device(ctx, host);
    ops_cuda::launch_random_fill(
        {ops_cuda::RandomKind::kTable16, storage_->data(), num_ * padded_ / 2, 1, 2,
         reinterpret_cast<const uint16_t*>(device.raw())},
        ctx.cuda->stream);
    COMET_CUDA(cudaStreamSynchronize(ctx.cuda->stream));  // `device` ends here
  }

  [[nodiscard]] int64_t num() const { return num_; }
  [[nodiscard]] double bytes() const { return static_cast<double>(bytes_); }
  [[nodiscard]] void* at(int64_t i) const { return storage_->data() + i % num_ * padded_; }
  [[nodiscard]] FloatRows rows(int64_t i) const { return {at(i), n_, type_}; }

 private:
  FloatType type_;
  int64_t n_;
  int64_t bytes_;
  int64_t padded_ = 0;
  int64_t num_ = 0;
  std::unique_ptr<Storage> storage_;
};

/// I32 values below `bound` on the device.
Tensor random_idxs(Context& ctx, int64_t count, int64_t bound) {
  Tensor host(std::make_shared<Storage>(host_allocator(), count * 4), 0, DType::kI32, {count});
  Rng rng(3);
  for (int64_t i = 0; i < count; ++i) {
    host.data<int32_t>()[i] = static_cast<int32_t>(rng.next_below(bound));
  }
  return copy_to_device(ctx, host);
}

class OpTimer {
 public:
  OpTimer(Context& ctx, const io::ModelConfig& config, int64_t rows)
      : ctx_(ctx), config_(config), rows_(rows), stream_(ctx.cuda->stream) {}

  std::vector<OpTiming> run() {
    time_residual();
    time_silu_mul();
    time_producers();
    time_heads();
    time_sampling();
    return std::move(timings_);
  }

 private:
  template <typename Call>
  void time(const std::string& op, int64_t rows, double bytes, int64_t num_buffers,
            const Call& call) {
    const GpuTiming timing = time_on_gpu(ctx_, call, {.num_buffers = num_buffers});
    timings_.push_back({op, rows, timing.us, bytes, timing.state});
  }

  void time_residual() {
    const int64_t n = config_.hidden_size;
    const Rotating x(ctx_, FloatType::kF32, rows_, n);
    const Rotating delta(ctx_, FloatType::kBF16, rows_, n);
    const Rotating out(ctx_, FloatType::kBF16, rows_, n);
    const Rotating weight(ctx_, FloatType::kF32, 1, n);
    const auto* weights = static_cast<const float*>(weight.at(0));
    time("add", rows_, 2 * x.bytes() + delta.bytes(), delta.num(),
         [&](int64_t i) { ops_cuda::launch_add({x.rows(i), delta.rows(i), rows_, n}, stream_); });
    time("rms_norm", rows_, x.bytes() + out.bytes(), out.num(), [&](int64_t i) {
      ops_cuda::launch_rms_norm({out.rows(i), x.rows(i), {}, weights, 1e-5F, rows_, n}, stream_);
    });
    time("add_rms_norm", rows_, 2 * x.bytes() + delta.bytes() + out.bytes(), out.num(),
         [&](int64_t i) {
           ops_cuda::launch_rms_norm(
               {out.rows(i), x.rows(i), delta.rows(i), weights, 1e-5F, rows_, n}, stream_);
         });
    time("convert", rows_, x.bytes() + out.bytes(), out.num(),
         [&](int64_t i) { ops_cuda::launch_convert({out.rows(i), x.rows(i), rows_, n}, stream_); });
    const Rotating table(ctx_, FloatType::kBF16, config_.vocab_size, n);
    const Tensor tokens = random_idxs(ctx_, rows_, config_.vocab_size);
    time("embedding", rows_, x.bytes() + out.bytes(), x.num(), [&](int64_t i) {
      ops_cuda::launch_embedding(
          {x.rows(i), table.rows(i), tokens.data<int32_t>(), rows_, n, config_.vocab_size},
          stream_);
    });
    const Rotating gathered(ctx_, FloatType::kF32, rows_, n);
    const Tensor idxs = random_idxs(ctx_, rows_, rows_);
    time("gather_rows", rows_, 2 * x.bytes() + delta.bytes(), delta.num(), [&](int64_t i) {
      ops_cuda::launch_gather_rows(
          {gathered.rows(i), x.rows(i), delta.rows(i), idxs.data<int32_t>(), rows_, n, rows_},
          stream_);
    });
  }

  void time_silu_mul() {
    const int64_t n = config_.intermediate_size;
    const Rotating fused(ctx_, FloatType::kBF16, rows_, 2 * n);
    const Rotating out(ctx_, FloatType::kBF16, rows_, n);
    time("silu_mul", rows_, fused.bytes() + out.bytes(), out.num(), [&](int64_t i) {
      const FloatRows gate = fused.rows(i);
      const FloatRows up{static_cast<uint16_t*>(gate.data) + n, gate.stride, gate.type};
      ops_cuda::launch_silu_mul({out.rows(i), gate, up, rows_, n}, stream_);
    });
  }

  /// What makes the inputs of products, of each format with a form of its own. `w4ax`: codes of 8
  /// bits; `fmpq`: all but a block of 4, permuted and rotated.
  void time_producers() {
    namespace producers = formats::cuda;
    const int64_t hidden = config_.hidden_size;
    const Rotating x(ctx_, FloatType::kF32, rows_, hidden);
    const Rotating delta(ctx_, FloatType::kBF16, rows_, hidden);
    const Rotating weight(ctx_, FloatType::kF32, 1, hidden);
    const auto source_of = [&](producers::SourceKind kind, int64_t k) {
      producers::RowSource source;
      source.kind = kind;
      source.rows = rows_;
      source.k = k;
      return source;
    };
    producers::RowSource norm = source_of(producers::SourceKind::kNorm, hidden);
    norm.weight = static_cast<const float*>(weight.at(0));
    norm.eps = 1e-5F;
    time_sinks("norm", hidden, 2 * x.bytes() + delta.bytes(), delta.num(), [&](int64_t i) {
      norm.x = {x.at(i), hidden, producers::FloatType::kF32};
      norm.other = {delta.at(i), hidden};
      return norm;
    });
    producers::RowSource rows = source_of(producers::SourceKind::kRows, hidden);
    time_sinks("rows", hidden, delta.bytes(), delta.num(), [&](int64_t i) {
      rows.x = {delta.at(i), hidden};
      return rows;
    });
    const int64_t ffn = config_.intermediate_size;
    const Rotating fused(ctx_, FloatType::kBF16, rows_, 2 * ffn);
    producers::RowSource silu_mul = source_of(producers::SourceKind::kSiluMul, ffn);
    time_sinks("silu_mul", ffn, fused.bytes(), fused.num(), [&](int64_t i) {
      auto* gate = static_cast<uint16_t*>(fused.at(i));
      silu_mul.x = {gate, 2 * ffn};
      silu_mul.other = {gate + ffn, 2 * ffn};
      return silu_mul;
    });
  }

  template <typename Source>
  void time_sinks(const std::string& name, int64_t k, double bytes_in, int64_t num_buffers,
                  const Source& source) {
    namespace producers = formats::cuda;
    const int64_t k_padded = (k + 127) / 128 * 128;
    const Rotating out(ctx_, FloatType::kBF16, rows_, k_padded);
    const Rotating scales(ctx_, FloatType::kF32, rows_, 2);
    const double bytes_out = out.bytes() / 2;
    Tensor host(std::make_shared<Storage>(host_allocator(), static_cast<size_t>(k_padded) * 4), 0,
                DType::kI32, {k_padded});
    for (int64_t i = 0; i < k_padded; ++i) {  // neighbours in stored order lie 64 channels apart
      const int64_t from = i / 64 + i % 64 * (k_padded / 64);
      host.data<int32_t>()[i] = from < k ? static_cast<int32_t>(from) : -1;
    }
    const Tensor perm = copy_to_device(ctx_, host);
    producers::BlockSink blocks;
    blocks.blocks = k_padded / 128;
    blocks.scale = producers::BlockScale::kSegmentRotated;
    blocks.scales = static_cast<float*>(scales.at(0));
    const auto time_blocks = [&](const std::string& op) {
      time(op, rows_, bytes_in + bytes_out, num_buffers, [&](int64_t i) {
        blocks.codes = static_cast<int8_t*>(out.at(i));
        producers::produce_w4ax(source(i), blocks, stream_);
      });
    };
    time_blocks(name + "_to_w4ax");
    blocks.int4_blocks = blocks.blocks - 1;
    blocks.perm = perm.data<int32_t>();
    time_blocks(name + "_to_fmpq");
    time(name + "_to_int8", rows_, bytes_in + bytes_out, num_buffers, [&](int64_t i) {
      producers::produce_int8(source(i), {out.at(i), k_padded, static_cast<float*>(scales.at(0))},
                              stream_);
    });
    time(name + "_to_bf16", rows_, bytes_in + out.bytes(), num_buffers,
         [&](int64_t i) { producers::produce_bf16(source(i), {out.at(i), k_padded}, stream_); });
  }

  void time_heads() {
    const int64_t head_dim = config_.head_dim;
    const int64_t num_heads = config_.num_heads + config_.num_kv_heads;
    const int64_t n = num_heads * head_dim;
    const Rotating x(ctx_, FloatType::kBF16, rows_, n);
    const Rotating weight(ctx_, FloatType::kF32, 1, head_dim);
    const Tensor positions = random_idxs(ctx_, rows_, 8192);
    const auto* frequencies = static_cast<const float*>(weight.at(1));
    const auto heads = [&](int64_t i) {
      return FloatHeads{x.at(i), FloatType::kBF16, rows_, num_heads, head_dim, n, head_dim};
    };
    time("rope", rows_, 2 * x.bytes(), x.num(), [&](int64_t i) {
      ops_cuda::launch_rope(heads(i), positions.data<int32_t>(), frequencies, stream_);
    });
    time("head_rms_norm", rows_, 2 * x.bytes(), x.num(), [&](int64_t i) {
      ops_cuda::launch_head_rms_norm(heads(i), static_cast<const float*>(weight.at(0)), 1e-6F,
                                     stream_);
    });
    time("hadamard", rows_, 2 * x.bytes(), x.num(),
         [&](int64_t i) { ops_cuda::launch_hadamard(heads(i), stream_); });
  }

  void time_sampling() {
    const auto rows = static_cast<int32_t>(std::min(rows_, kMaxSampledRows));
    const auto vocab = static_cast<int32_t>(config_.vocab_size);
    const Rotating logits(ctx_, FloatType::kF32, rows, vocab);
    const Storage workspace(ctx_.memory, engine::sample_workspace_bytes(rows, vocab, 0));
    const Storage result(ctx_.memory, static_cast<size_t>(rows) * 8);
    const auto time_draws = [&](const std::string& op, const engine::SampleRow& params) {
      const Tensor host(
          std::make_shared<Storage>(host_allocator(), rows * sizeof(engine::SampleRow)), 0,
          DType::kU8, {static_cast<int64_t>(rows * sizeof(engine::SampleRow))});
      for (int32_t i = 0; i < rows; ++i) {
        engine::SampleRow& row = reinterpret_cast<engine::SampleRow*>(host.raw())[i];
        row = params;
        row.seed = static_cast<uint64_t>(i);
      }
      const Tensor device = copy_to_device(ctx_, host);
      time(op, rows, logits.bytes(), logits.num(), [&](int64_t i) {
        engine::SampleArgs args;
        args.logits = static_cast<float*>(logits.at(i));
        args.stride = vocab;
        args.rows = rows;
        args.vocab = vocab;
        args.params = reinterpret_cast<const engine::SampleRow*>(device.raw());
        args.has_draws = params.scale > 0;
        args.workspace = workspace.data();
        args.tokens = reinterpret_cast<int32_t*>(result.data());
        args.logprobs = reinterpret_cast<float*>(result.data()) + rows;
        engine::launch_sample(args, stream_);
      });
    };
    time_draws("sample_greedy", {});
    time_draws("sample", {.scale = 1.0F});
    time_draws("sample_top_k_50", {.scale = 1.0F, .top_k = 50});
    // Flat logits at T = 0.25 here, as sharp as a model's at T = 1.
    time_draws("sample_top_p_0.9", {.top_p = 0.9, .scale = 4.0F});
    time_draws("sample_top_p_0.9_flat", {.top_p = 0.9, .scale = 1.0F});
  }

  Context& ctx_;
  const io::ModelConfig& config_;
  int64_t rows_;
  cudaStream_t stream_;
  std::vector<OpTiming> timings_;
};

}  // namespace

std::vector<OpTiming> time_ops(Context& ctx, const io::ModelConfig& config, int64_t rows) {
  COMET_CHECK(ctx.cuda != nullptr);
  return OpTimer(ctx, config, rows).run();
}

}  // namespace comet::bench
