#include "bench/gpu_library.h"

#include <algorithm>
#include <bit>
#include <vector>

#include "comet/base/rng.h"
#include "comet/device/cuda/cublaslt.h"
#include "comet/device/cuda/cuda_check.h"
#include "comet/ops/fill/cuda/fill.h"
#include "comet/tensor/float8.h"

namespace comet::bench {
namespace {

/// 16-bit values of a Gaussian: one BF16, or two 8-bit codes.
std::vector<uint16_t> gaussian_table(DType dtype) {
  Rng rng(29);
  std::vector<uint16_t> table;
  const auto code = [&] {
    const float x = rng.next_normal();
    if (dtype == DType::kF8E4M3) {  // absmax of some thousand values lies at 4 deviations
      return static_cast<unsigned>(to_float8_e4m3(x * kMaxFloat8E4M3 / 4).bits);
    }
    return static_cast<unsigned>(
        static_cast<uint8_t>(static_cast<int8_t>(std::clamp(x * 127.0F / 4, -127.0F, 127.0F))));
  };
  while (static_cast<int64_t>(table.size()) < ops_cuda::kRandomTableSize) {
    const unsigned bits =
        dtype == DType::kBF16 ? to_bfloat16(0.02F * rng.next_normal()).bits : code() | code() << 8;
    table.push_back(static_cast<uint16_t>(bits));
  }
  return table;
}

int64_t rotating_bytes(int64_t bytes) { return num_rotating_buffers(bytes) * bytes; }

class Peers {
 public:
  Peers(Context& ctx, CublasLt& lt, const ProductShape& shape, const GpuTimerOptions& options)
      : ctx_(ctx),
        lt_(lt),
        shape_(shape),
        options_(options),
        weights_(ctx.memory, static_cast<size_t>(std::max(rotating_bytes(shape.n * shape.k),
                                                          rotating_bytes(2 * shape.n * shape.k)))),
        x_(ctx.memory, static_cast<size_t>(2 * shape.m * shape.k)),
        out_(ctx.memory, static_cast<size_t>(4 * shape.m * shape.n)),
        scales_(ctx.memory, static_cast<size_t>(4 * std::max(shape.m, shape.n))),
        table_(ctx.memory, static_cast<size_t>(2 * ops_cuda::kRandomTableSize)) {
    ops_cuda::launch_fill_words(scales_.data(), std::bit_cast<uint32_t>(1.0F / 4096),
                                std::max(shape.m, shape.n), ctx.cuda->stream);
  }

  void fill(DType dtype) {
    const std::vector<uint16_t> table = gaussian_table(dtype);
    COMET_CUDA(cudaMemcpyAsync(table_.data(), table.data(), table_.bytes(), cudaMemcpyDefault,
                               ctx_.cuda->stream));
    fill(weights_, 1);
    fill(x_, 2);
    COMET_CUDA(cudaStreamSynchronize(ctx_.cuda->stream));
  }

  std::optional<double> time(MatmulDesc desc) {
    desc.rows = shape_.m;
    desc.n = shape_.n;
    desc.k = shape_.k;
    desc.sum_quickly = desc.in == DType::kF8E4M3;
    if (!plan_matmul(lt_, desc)) return std::nullopt;
    const int64_t bytes = shape_.n * shape_.k * dtype_bytes(desc.in);
    GpuTimerOptions options = options_;
    options.num_buffers = num_rotating_buffers(bytes);
    MatmulArgs args;
    args.x = x_.data();
    args.out = out_.data();
    args.x_scale = args.w_scale = reinterpret_cast<const float*>(scales_.data());
    const GpuTiming timing = time_on_gpu(
        ctx_,
        [&](int64_t i) {
          args.w = weights_.data() + i % options.num_buffers * bytes;
          run_matmul(lt_, desc, args, ctx_.cuda->stream);
        },
        options);
    return timing.us;
  }

 private:
  void fill(const Storage& to, uint64_t stream) {
    ops_cuda::RandomFillArgs args;
    args.out = to.data();
    args.count = static_cast<int64_t>(to.bytes()) / 2;
    args.stream = stream;
    args.table = reinterpret_cast<const uint16_t*>(table_.data());
    ops_cuda::launch_random_fill(args, ctx_.cuda->stream);
  }

  Context& ctx_;
  CublasLt& lt_;
  ProductShape shape_;
  GpuTimerOptions options_;
  Storage weights_;
  Storage x_;
  Storage out_;
  Storage scales_;
  Storage table_;
};

}  // namespace

LibraryTimes time_library(Context& ctx, const ProductShape& shape, const GpuTimerOptions& options) {
  LibraryTimes times;
  const auto lt = cublaslt_of(*ctx.cuda);
  if (!lt) return times;
  Peers peers(ctx, **lt, shape, options);
  peers.fill(DType::kBF16);
  times.bf16_us = peers.time({.in = DType::kBF16, .out = DType::kBF16});
  peers.fill(DType::kF8E4M3);
  times.fp8_us =
      peers.time({.in = DType::kF8E4M3, .out = DType::kBF16, .scale = MatmulScale::kTensor});
  times.fp8_row_us =
      peers.time({.in = DType::kF8E4M3, .out = DType::kBF16, .scale = MatmulScale::kOuter});
  peers.fill(DType::kI8);
  times.int8_us = peers.time({.in = DType::kI8, .out = DType::kI32});
  return times;
}

}  // namespace comet::bench
