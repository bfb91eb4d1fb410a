// Attention over the paged cache on a GPU: norms, RoPE and append of a step's heads, then decode
// and prefill attention. Caller: KvCache. A build without CUDA links kv_backend_absent.cpp.
#pragma once

#include "comet/kv/kv_cache.h"

namespace comet::kv {

/// Everything in device memory but the format, the shape and the numbers.
struct KvAttendArgs {
  const KvFormat* format = nullptr;
  KvShape shape;
  std::byte* pages = nullptr;  // of this layer; page p at p · format->page_bytes(shape)
  const HeadsInput& heads;     // BF16; q may be written
  bool rotate = false;
  KvScales scales;
  const DeviceBatch& batch;
  Rows out;                           // [tokens, heads · head_dim] BF16
  uint64_t* num_saturated = nullptr;  // rows whose FP16 scale overflowed are added, or none
};

/// An error that names what the GPU's kernels lack of this cache: a format, a head_dim, a window.
Status check_cuda_cache(const KvFormat& format, const KvShape& shape, const KvOptions& options);
void attend_cuda(Context& ctx, const KvAttendArgs& args);
/// A uint64_t, 0, that kernels add to and the host reads without waiting for them.
std::shared_ptr<Storage> make_gpu_counter();

}  // namespace comet::kv
