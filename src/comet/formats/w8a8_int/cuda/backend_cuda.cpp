// w8a8-int on CUDA: producers' codes and scales lie as on the CPU (w8a8_int.h), without the sums of
// codes, which no product here needs.
#include "comet/device/cuda/cuda_resources.h"
#include "comet/formats/cuda/float_rows.h"
#include "comet/formats/cuda/linear_end.h"
#include "comet/formats/w8a8/channel_codes.h"
#include "comet/formats/w8a8/cuda/device_weight.h"
#include "comet/formats/w8a8/cuda/gemm_sm90.h"
#include "comet/formats/w8a8_int/w8a8_int.h"

namespace comet::formats {
namespace w8a8_int {
namespace {

constexpr int64_t kNumScales = 2;  // a row, of which the second counts

Activation produce(Context& ctx, const LinearWeight& weight, const cuda::RowSource& source) {
  return w8a8::produce(ctx, weight, source, DType::kI8, {source.rows, kNumScales});
}

constexpr LinearKernel kKernels[] = {
    {.name = "w8a8_int_mma",
     .supports = w8a8::runs_mma,
     .cost_us = w8a8::cost_mma_us,
     .run = w8a8::run_mma,
     .run_with = cuda::run_with_end<w8a8::run_mma>},
    {.name = "w8a8_int_sm90",
     .supports = w8a8::runs_sm90,
     .cost_us = w8a8::cost_sm90_us,
     .run = w8a8::run_sm90,
     .run_with = cuda::run_with_end<w8a8::run_sm90>},
};

}  // namespace
}  // namespace w8a8_int

const FormatBackend& w8a8_int_cuda_backend() {
  static const FormatBackend backend =
      cuda::backend_of<w8a8_int::produce>(w8a8_int::kKernels, w8a8::prepare);
  return backend;
}

}  // namespace comet::formats
