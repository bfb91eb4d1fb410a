// Times of attention's GPU kernels over random caches larger than L2. Caller: `comet bench
// attention`. Without the CUDA backend calling this is a broken promise.
#pragma once

#include <string>
#include <vector>

#include "bench/gpu_timer.h"

namespace comet::bench {

enum class AttentionKind { kDecode, kPrefill, kAppend };

/// `batch` sequences of kv_len tokens in shuffled pages; each attends with its last query_len.
struct AttentionCase {
  AttentionKind kind = AttentionKind::kDecode;
  std::string kv = "kv16";  // kv16, kv8 or kv4
  int64_t batch = 1;
  int64_t kv_len = 1;
  int64_t query_len = 1;
  int64_t num_heads = 1;
  int64_t num_kv_heads = 1;
  int64_t head_dim = 128;  // 64 or 128
};

struct AttentionTiming {
  std::string kernel;
  double us = 0;
  double bytes = 0;  // of the cache read (decode), or read and written (append)
  double flops = 0;  // of visible keys only
  GpuState state;
};

/// Every kernel that can run the case.
std::vector<AttentionTiming> time_attention(Context& ctx, const AttentionCase& what, uint64_t seed);

}  // namespace comet::bench
