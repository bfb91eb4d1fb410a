// KvKernels: what one instruction set does with the rows of one KV format. Filled by
// attend/attend_<isa>.cpp, called by rows.cpp (append, gather) and attend/attend.cpp. Plain
// structs: files compiled for an instruction set may include this.
#pragma once

#include <stdint.h>

namespace comet::kv {

/// Rows of one KV head in a page, and the largest head_dim (kPageTokens and kMaxHeadDim, as those
/// files see them).
constexpr int64_t kTileTokens = 32;
constexpr int64_t kMaxRowValues = 512;

/// BF16 rows that a task reads instead of the pages' (see KvWindow in kv_format.h), of its sequence
/// and KV head. No window: both counts 0.
struct AttendWindow {
  int64_t num_first;
  int64_t num_recent;
  const uint16_t* keys;    // [num_first + num_recent][head_dim]: what earlier steps kept
  const uint16_t* values;  // likewise
  int64_t step_begin;      // position of the step's first token
  const float* step_keys;  // its row; those of later tokens follow at the strides
  const float* step_values;
  int64_t step_key_stride;
  int64_t step_value_stride;
};

/// Attention of some consecutive query tokens of one sequence over one KV head.
/// Which of the two ways through attention a task takes (their sums differ in the last bits).
enum class AttendWay { kByNumRows, kLanesOverDims, kLanesOverRows };

struct AttendTask {
  const float* q;  // first token, first head of the group
  int64_t q_token_stride;
  int64_t q_head_stride;
  float* out;  // likewise; heads are head_dim apart
  int64_t out_token_stride;
  const uint8_t* keys;   // this head's K part of page 0
  int64_t value_offset;  // its V part lies so many bytes behind the K part
  int64_t page_bytes;
  const int32_t* block_table;
  int64_t num_tokens;     // query tokens
  int64_t group;          // query heads of this KV head
  int64_t first_visible;  // keys that the first query token sees; the next sees one more
  int64_t head_dim;
  AttendWay way;
  AttendWindow window;
  float* scratch;  // scratch_size in attend/attend.cpp
};

/// Query rows (tokens × group) that a task takes at once.
constexpr int64_t kTaskRows = 64;

struct KvKernels {
  /// Writes x [head_dim] as row slot_idx of a part; 1 when its scale overflowed, else 0.
  int64_t (*encode_row)(uint8_t* part, int64_t slot_idx, const float* x, int64_t head_dim);
  /// The first num_rows rows of a part as FP32, row i at out + i · stride.
  void (*decode_rows)(float* out, int64_t stride, const uint8_t* part, int64_t num_rows,
                      int64_t head_dim);
  void (*attend)(const AttendTask& task);
};

struct KvKernelSet {
  KvKernels kv16;
  KvKernels kv8;
  KvKernels kv4;
  KvKernels kv8_fp8;
  KvKernels kv32;
};

extern const KvKernelSet kKvKernelsPortable;
extern const KvKernelSet kKvKernelsAvx2;
extern const KvKernelSet kKvKernelsAvx512;

}  // namespace comet::kv
