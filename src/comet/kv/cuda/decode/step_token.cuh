// The token that a step adds to a sequence, appended by the decode kernel itself: one kernel less
// where there are few sequences, and q and the new row need no way through memory. Included by
// decode.cu.
#pragma once

#include "comet/kv/cuda/append/head.cuh"
#include "comet/kv/cuda/decode/decode_ring.cuh"

namespace comet::kv {

/// A step's new token of one KV head, where the kernel appends it itself: the warp that has the
/// sequence's last page takes k and v, and puts them into its copy of the page, too; the others
/// take the queries.
template <typename S>
struct StepToken {
  static constexpr int kDim = S::kDim;
  static constexpr int kCount = kDim / 32;

  struct Shared {
    Angles<kDim> angles;
    alignas(16) uint16_t queries[kHeadsPerPass][kDim];
    uint8_t staged[S::kWarps][kDim];
  };

  const AppendParams& p;
  Shared& shared;
  int token;
  int kv_head;
  int row_idx;   // in the last page
  int32_t slot;  // the same row among all pages'
  float k[kCount];
  float v[kCount];

  __device__ __forceinline__ StepToken(const AppendParams& params, Shared& in, int seq, int head,
                                       int kv_len)
      : p(params),
        shared(in),
        token(seq),
        kv_head(head),
        row_idx((kv_len - 1) % kPageRows),
        slot(params.slots[seq]) {
    shared.angles.set(p.positions[token], p.inv_freq);
    __syncthreads();
  }

  __device__ __forceinline__ void load_turned(float (&x)[kCount], int head) const {
    load_head<kDim>(x, head_row<kDim>(p, token, head));
    turn_head(x, p, HeadPlace(p, head), shared.angles);
  }

  __device__ __forceinline__ uint8_t* staged() const { return shared.staged[threadIdx.x / 32]; }

  /// The owner's part; the row also goes to memory.
  __device__ __forceinline__ void append() {
    load_head<kDim>(v, head_row<kDim>(p, token, p.num_heads + p.num_kv_heads + kv_head));
    load_turned(k, p.num_heads + kv_head);
    put(part_of<S::kFormat, kDim>(p.pages, slot, p.num_kv_heads, kv_head, false), p.num_saturated);
  }

  /// k and v into their row of the page whose K part is given.
  __device__ __forceinline__ void put(uint8_t* part, uint64_t* num_saturated) {
    store_row<S::kFormat>(part, row_idx, false, k, staged(), num_saturated);
    store_row<S::kFormat>(part + S::Map::kPartBytes, row_idx, true, v, staged(), num_saturated);
  }

  /// Of `num_heads` query heads from first_head on, every num_warps-th from warp on.
  __device__ __forceinline__ void turn_queries(int first_head, int num_heads, int warp,
                                               int num_warps) {
    for (int i = warp; i < num_heads; i += num_warps) {
      float x[kCount];
      load_turned(x, first_head + i);
      store_query<kDim>(shared.queries[i], x);
    }
  }
};

}  // namespace comet::kv
