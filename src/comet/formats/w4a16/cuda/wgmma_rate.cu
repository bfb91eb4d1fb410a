// The parts of the consumers' loop (gemm_wgmma_consumer.cuh) one by one: wgmma_rate.h.
#include "comet/formats/w4a16/cuda/wgmma_rate.h"

#include "comet/base/check.h"
#include "comet/device/cuda/cuda_check.h"
#include "comet/formats/w4a16/cuda/gemm_wgmma_consumer.cuh"

namespace comet::formats::w4a16_cuda::wgmma {
namespace {

constexpr int kRateStages = 4;  // that items pass through, in shared memory

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/// 32 products (four items) on the same sums and registers, then a wait.
template <class T, RatePart kPart>
__device__ __forceinline__ void bare_products(const Consumer<T>& consumer,
                                              float (&totals)[T::kSums],
                                              typename Consumer<T>::Batch (&a)[2], int stage) {
  if constexpr (kPart != RatePart::kShared) {
#pragma unroll
    for (int i = 0; i < 32 / T::kBatch; ++i) {
      consumer.multiply(totals, a[i % 2], stage, i % T::kBatches * T::kBatch, false);
    }
  } else {
    const uint8_t* rows = consumer.shared.inputs + kRateStages * T::kInputBytes;
    const uint32_t a_low = prims::wgmma_low_k128(rows);  // the same for all: reading costs the same
    const uint32_t low = prims::wgmma_low_k128(consumer.shared.inputs + stage * T::kInputBytes);
    prims::wgmma_fence();
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      const uint32_t b_bytes = i % 8 / 4 * T::kBoxBytes + i % 4 * 32;
      prims::WgmmaBf16<T::kTokens>::ss(totals,
                                       prims::wgmma_descriptor_of_low_k128(a_low + i % 4 * 2),
                                       prims::wgmma_descriptor_of_low_k128(low + b_bytes / 16), 1);
    }
    prims::wgmma_commit();
  }
  prims::wgmma_wait<0>();
  prims::wgmma_pin(totals);
}

/// One item as Consumer::one_sum has it, with the parts up to kPart.
template <class T, RatePart kPart>
__device__ __forceinline__ void one_item(const Consumer<T>& consumer, float (&totals)[T::kSums],
                                         typename Consumer<T>::Batch (&a)[2], LaneBlock& block,
                                         int stage) {
  float sums[T::kSums];
#pragma unroll
  for (int batch = 0; batch < T::kBatches; ++batch) {
    if (batch >= 2) prims::wgmma_wait<1>();
    if (kPart >= RatePart::kDecoded && batch >= 1) {
      consumer.make_batch(a[batch % 2], block, batch);
    }
    consumer.multiply(sums, a[batch % 2], stage, batch * T::kBatch, batch == 0);
  }
  const float scales[2] = {block.factors.scales[0], block.factors.scales[1]};
  if constexpr (kPart >= RatePart::kRead) block = consumer.read((stage + 1) % kRateStages);
  prims::wgmma_wait<0>();
  prims::wgmma_pin(sums);
  if constexpr (kPart == RatePart::kDecoded) {  // other words, else all is made before the loop
#pragma unroll
    for (uint32_t& word : block.words) word += static_cast<uint32_t>(stage);
  }
  if constexpr (kPart >= RatePart::kDecoded) consumer.make_batch(a[0], block, 0);
  if constexpr (kPart >= RatePart::kPromoted) {
    consumer.promote(totals, sums, scales);
  } else {
    totals[0] += sums[0];
  }
}

/// What is beside the products of an item, without them, until the others are through.
template <class T>
__device__ __forceinline__ void decode_and_add(const Consumer<T>& consumer,
                                               float (&totals)[T::kSums], LaneBlock& block,
                                               const volatile uint32_t* num_through,
                                               uint32_t num_others) {
  float sums[T::kSums];
#pragma unroll
  for (int i = 0; i < T::kSums; ++i) sums[i] = static_cast<float>(i);
  while (*num_through < num_others) {
#pragma unroll
    for (int batch = 0; batch < T::kBatches; ++batch) {
      uint32_t a[T::kBatch][4];
      consumer.make_batch(a, block, batch);
#pragma unroll
      for (int j = 0; j < T::kBatch; ++j) {
        uint32_t& word = block.words[batch * T::kBatch + j];
        word = (word ^ a[j][0]) + (a[j][1] ^ a[j][2] ^ a[j][3]);
      }
    }
    prims::wgmma_pin(sums);
    consumer.promote(totals, sums, block.factors.scales);
  }
#pragma unroll
  for (const uint32_t word : block.words) totals[0] += static_cast<float>(word);
}

#endif

template <class T, RatePart kPart>
__global__ void __launch_bounds__(T::kConsumers, 1)
    rate_kernel(const __grid_constant__ Params p, int num_items, int64_t* clocks) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) uint8_t raw_shared[];
  for (uint32_t i = threadIdx.x; i < T::kSharedBytes / 4; i += blockDim.x) {
    reinterpret_cast<uint32_t*>(raw_shared)[i] = 0x3C003C00U + i % 61;
  }
  prims::fence_proxy_async();
  __syncthreads();
  const Shared<T> shared(raw_shared, p);
  const Consumer<T> consumer(p, shared, shared.weights);
  float totals[T::kSums];
#pragma unroll
  for (float& total : totals) total = 0.0F;
  LaneBlock block = consumer.read(0);
  if (threadIdx.x == 0) *reinterpret_cast<uint32_t*>(shared.full_weights) = 0;  // warps through
  typename Consumer<T>::Batch a[2];
  consumer.make_batch(a[0], block, 0);
  consumer.make_batch(a[1], block, 1);
  __syncthreads();
  const int64_t begin = clock64();
  auto* num_through = reinterpret_cast<uint32_t*>(shared.full_weights);
  const uint32_t num_multiply = kPart == RatePart::kBeside ? blockDim.x / 2 : blockDim.x;
  if constexpr (kPart == RatePart::kBeside) {
    const bool is_adder = __shfl_sync(0xFFFFFFFF, threadIdx.x >= num_multiply ? 1 : 0, 0) != 0;
    if (is_adder) decode_and_add(consumer, totals, block, num_through, num_multiply / 32);
    if (is_adder) num_items = 0;
  }
#pragma unroll 1
  for (int item = 0; item < num_items;) {
    if constexpr (kPart <= RatePart::kShared || kPart == RatePart::kBeside) {
      bare_products<T, kPart>(consumer, totals, a, item / 4 % kRateStages);
      item += 4;
    } else {
      one_item<T, kPart>(consumer, totals, a, block, item % kRateStages);
      ++item;
    }
  }
  if (kPart == RatePart::kBeside && threadIdx.x < num_multiply && threadIdx.x % 32 == 0) {
    atomicAdd(num_through, 1);
  }
  __syncthreads();
  const int64_t end = clock64();
  float sum = 0.0F;
#pragma unroll
  for (const float total : totals) sum += total;
  if (threadIdx.x == 0 || sum == 1.2345F) clocks[blockIdx.x] = end - begin;
#else
  __trap();
#endif
}

template <class T, RatePart kPart>
void launch_part(int num_groups, int num_items, int num_ctas, int64_t* clocks,
                 cudaStream_t stream) {
  COMET_CHECK(num_groups * 128 <= T::kConsumers);
  COMET_CUDA(cudaFuncSetAttribute(rate_kernel<T, kPart>,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize, T::kSharedBytes));
  Params p{};
  p.num_splits = 1;
  p.num_stages = kRateStages;
  p.stage_bytes = kMaxBlockBytes;
  rate_kernel<T, kPart>
      <<<num_ctas, num_groups * 128, T::kSharedBytes, stream>>>(p, num_items, clocks);
  COMET_CUDA(cudaGetLastError());
}

template <class T>
void launch_tile(const RateCase& c, int num_items, int num_ctas, int64_t* clocks,
                 cudaStream_t stream) {
  const auto launch = [&]<RatePart kPart>() {
    launch_part<T, kPart>(c.num_groups, num_items, num_ctas, clocks, stream);
  };
  switch (c.part) {
    case RatePart::kRegisters:
      return launch.template operator()<RatePart::kRegisters>();
    case RatePart::kShared:
      return launch.template operator()<RatePart::kShared>();
    case RatePart::kItems:
      return launch.template operator()<RatePart::kItems>();
    case RatePart::kPromoted:
      return launch.template operator()<RatePart::kPromoted>();
    case RatePart::kDecoded:
      return launch.template operator()<RatePart::kDecoded>();
    case RatePart::kRead:
      return launch.template operator()<RatePart::kRead>();
    case RatePart::kBeside:
      return launch.template operator()<RatePart::kBeside>();
  }
  COMET_CHECK(false);
}

}  // namespace
}  // namespace comet::formats::w4a16_cuda::wgmma

namespace comet::formats::w4a16_cuda {

void launch_wgmma_rate(const RateCase& c, int num_items, int num_ctas, int64_t* clocks,
                       cudaStream_t stream) {
  using wgmma::Form;
  using wgmma::launch_tile;
  using wgmma::Traits;
  switch (c.tokens) {
    case 16:
      return launch_tile<Traits<16, Form::kGroups, TileShape::kAlone>>(c, num_items, num_ctas,
                                                                       clocks, stream);
    case 32:
      return launch_tile<Traits<32, Form::kGroups, TileShape::kAlone>>(c, num_items, num_ctas,
                                                                       clocks, stream);
    case 64:
      return launch_tile<Traits<64, Form::kGroups, TileShape::kAlone>>(c, num_items, num_ctas,
                                                                       clocks, stream);
    case 128:
      return launch_tile<Traits<128, Form::kGroups, TileShape::kAlone>>(c, num_items, num_ctas,
                                                                        clocks, stream);
    default:
      COMET_CHECK(false);
  }
}

}  // namespace comet::formats::w4a16_cuda
