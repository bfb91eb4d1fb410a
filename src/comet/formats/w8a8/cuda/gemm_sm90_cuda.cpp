#include "comet/device/cuda/tensor_map.h"
#include "comet/formats/w8a8/cuda/gemm_sm90.h"

namespace comet::formats::w8a8 {
namespace {

CUtensorMap byte_map(const void* data, int64_t rows, int64_t k, int64_t stride, int32_t box_rows) {
  // Columns up to a multiple of 16 bytes: what is behind k is zero anyway.
  const int64_t columns = (k + 15) / 16 * 16;
  return make_tensor_map({.data = data,
                          .dtype = DType::kI8,
                          .rows = rows,
                          .columns = columns,
                          .stride = stride,
                          .box_rows = box_rows});
}

}  // namespace

void run_gemm_sm90(const GemmArgs& args, const Sm90Plan& plan, CUstream_st* stream) {
  if (args.rows == 0 || args.n == 0) return;
  const CUtensorMap w_map = byte_map(args.w, args.n, args.k, args.w_stride, kSm90TileChannels);
  const CUtensorMap x_map = byte_map(args.x, args.rows, args.k, args.x_stride, plan.tile_tokens);
  launch_gemm_sm90(args, plan, &w_map, &x_map, stream);
}

}  // namespace comet::formats::w8a8
