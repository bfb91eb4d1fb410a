// Launches of gemm_sm80.h; what the kernels do stands in gemm_sm80.cuh.
#include "comet/formats/w4ax/cuda/sm80/gemm_sm80.cuh"

namespace comet::formats::w4ax::cuda {
namespace {

/// Codes of INT4 blocks → [tokens, int4_blocks · 64], paired. A thread makes 16 bytes.
__global__ void __launch_bounds__(kNumThreads)
    pair_codes_kernel(const __grid_constant__ GemmArgs args, uint4* paired) {
  const int64_t chunk = static_cast<int64_t>(blockIdx.x) * kNumThreads + threadIdx.x;
  const int row_chunks = args.int4_blocks * (kPairedBytes / 16);
  if (chunk >= static_cast<int64_t>(args.tokens) * row_chunks) return;
  const int64_t token = chunk / row_chunks;
  const int row_chunk = static_cast<int>(chunk % row_chunks);
  const int8_t* codes =
      args.codes + token * args.blocks * kBlockChannels + row_chunk / 2 * 64 + row_chunk % 2 * 16;
  const uint4 low = *reinterpret_cast<const uint4*>(codes);
  const uint4 high = *reinterpret_cast<const uint4*>(codes + 32);
  paired[chunk] = make_uint4(pair_nibbles(low.x, high.x), pair_nibbles(low.y, high.y),
                             pair_nibbles(low.z, high.z), pair_nibbles(low.w, high.w));
}

void pair_codes(const GemmArgs& args, uint8_t* paired, cudaStream_t stream) {
  const int64_t chunks = int64_t{args.tokens} * args.int4_blocks * (kPairedBytes / 16);
  if (chunks == 0) return;
  const int64_t ctas = (chunks + kNumThreads - 1) / kNumThreads;
  pair_codes_kernel<<<static_cast<unsigned>(ctas), kNumThreads, 0, stream>>>(
      args, reinterpret_cast<uint4*>(paired));
  COMET_CUDA(cudaGetLastError());
}

}  // namespace

void gemm_sm80(const GemmArgs& args, const Sm80Plan& plan, void* workspace, int32_t* counters,
               CUstream_st* stream) {
  if (args.tokens == 0 || args.num_tiles == 0) return;
  Sm80Operands operands{args, nullptr};
  switch (plan.tile_tokens) {
    case 16:
      return launch_sm80<Sm80Traits<16, 8, true>>(operands, plan.schedule, workspace, counters,
                                                  stream);
    case 64:
      return launch_sm80<Sm80Traits<64, 5, true>>(operands, plan.schedule, workspace, counters,
                                                  stream);
    default:
      break;
  }
  auto* paired = static_cast<uint8_t*>(workspace) + plan.parts_bytes;
  pair_codes(args, paired, stream);
  operands.paired_codes = paired;
  launch_sm80<Sm80Traits<128, 4, true>>(operands, plan.schedule, workspace, counters, stream);
}

}  // namespace comet::formats::w4ax::cuda
