// kv8 and kv4 pages of a step's sequences as pages of kv16's layout that hold FP16, so that prefill
// runs by wgmma: a pass over memory (136 bytes read and 512 written a token and KV head of 128)
// that costs 3 % of the attention behind it at 4,096 tokens, where expanding every tile in every
// CTA costs more than the products. Grid: (max_pages, kv_heads, seqs); a CTA expands one head's K
// and V of a page. Numerics: x̂ = s·u + m in one rounding to FP16.
#include "comet/kv/cuda/prefill/dequant.cuh"
#include "comet/kv/cuda/prefill/prefill.h"

namespace comet::kv {
namespace {

constexpr int kThreads = 128;

template <PageFormat kFormat, int kDim>
__global__ void __launch_bounds__(kThreads) expand_kernel(const __grid_constant__ ExpandParams p) {
  using Map = PageMap<kFormat, kDim>;
  using Wide = PageMap<PageFormat::kKv16, kDim>;
  __shared__ __align__(16) uint8_t coded[Map::kHeadBytes];
  __shared__ __align__(16) uint8_t wide[Wide::kHeadBytes];
  const int page = blockIdx.x;
  const int kv_head = blockIdx.y;
  const int seq = blockIdx.z;
  const int num_rows = p.kv_lens[seq] - page * kPageRows;
  if (num_rows <= 0) return;
  const int64_t source_page = p.block_tables[seq * p.block_table_stride + page];
  const int64_t target_page = static_cast<int64_t>(seq) * p.max_pages + page;
  if (kv_head == 0 && threadIdx.x == 0) {
    p.wide_tables[target_page] = static_cast<int32_t>(target_page);
  }
  const auto* source = reinterpret_cast<const uint4*>(
      p.pages + (source_page * p.num_kv_heads + kv_head) * int64_t{Map::kHeadBytes});
  for (int i = threadIdx.x; i < Map::kHeadBytes / 16; i += kThreads) {
    reinterpret_cast<uint4*>(coded)[i] = source[i];
  }
  __syncthreads();
  expand_page<kFormat, kDim>(wide, coded, num_rows, threadIdx.x, kThreads);
  __syncthreads();
  auto* target = reinterpret_cast<uint4*>(p.wide_pages + (target_page * p.num_kv_heads + kv_head) *
                                                             int64_t{Wide::kHeadBytes});
  for (int i = threadIdx.x; i < Wide::kHeadBytes / 16; i += kThreads) {
    target[i] = reinterpret_cast<const uint4*>(wide)[i];
  }
}

template <int kDim>
cudaError_t launch_of(const ExpandParams& params, PageFormat format, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(params.max_pages),
                  static_cast<unsigned>(params.num_kv_heads),
                  static_cast<unsigned>(params.num_seqs));
  if (format == PageFormat::kKv8) {
    expand_kernel<PageFormat::kKv8, kDim><<<grid, kThreads, 0, stream>>>(params);
  } else if (format == PageFormat::kKv4) {
    expand_kernel<PageFormat::kKv4, kDim><<<grid, kThreads, 0, stream>>>(params);
  } else {
    return cudaErrorInvalidValue;
  }
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_expand(const ExpandParams& params, PageFormat format, int head_dim,
                          cudaStream_t stream) {
  if (params.num_seqs == 0 || params.max_pages == 0) return cudaSuccess;
  if (head_dim == 64) return launch_of<64>(params, format, stream);
  if (head_dim == 128) return launch_of<128>(params, format, stream);
  return cudaErrorInvalidValue;
}

}  // namespace comet::kv
