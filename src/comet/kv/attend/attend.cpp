// Cuts attention of a ragged batch into tasks (sequence, KV head, block of query tokens). The cut
// depends on the batch alone, so the number of threads changes no bit.
#include <algorithm>

#include "comet/kv/cache_driver.h"

namespace comet::kv {
namespace {

/// Multiply-accumulates below which one thread is done before a second has woken.
constexpr int64_t kParallelMacs = int64_t{1} << 17;
constexpr int64_t kMaxGroup = 512;

/// Floats that a task uses on any instruction set: a tile, q and out in whole panels, scores, and
/// four numbers per row.
int64_t scratch_size(int64_t group, int64_t head_dim) {
  const int64_t rows = (std::max(group, kTaskRows) + 31) / 32 * 32;
  const int64_t dims = (head_dim + 15) / 16 * 16;
  return kTileTokens * dims + 2 * rows * dims + kTileTokens * rows + 4 * rows;
}

struct Plan {
  View<const float, 3> q;
  View<float, 2> out;
  const KvLayer* layer;
  const Batch* batch;
  PageLayout layout;
  int64_t group;
  int64_t block_tokens;        // query tokens of a task
  const int64_t* first_tasks;  // [num_seqs + 1] tasks of sequence s are [first[s], first[s + 1])
  float* scratch;              // [threads][scratch_floats]
  int64_t scratch_floats;
};

AttendWindow make_window(const Plan& plan, int64_t seq_idx, int64_t kv_head_idx) {
  const KvWindow& source = plan.layer->window;
  const Batch& batch = *plan.batch;
  AttendWindow window{};
  if (source.rows == nullptr) return window;
  const int64_t part_values = (source.num_first + source.num_recent) * source.k.size(2);
  const int64_t head = batch.seq_slots[seq_idx] * plan.layout.num_kv_heads + kv_head_idx;
  const int64_t first_row = batch.cu_seqlens[seq_idx];
  window.num_first = source.num_first;
  window.num_recent = source.num_recent;
  window.keys = source.rows + head * 2 * part_values;
  window.values = window.keys + part_values;
  window.step_begin = position_of(batch, seq_idx, first_row);
  window.step_keys = source.k.row(first_row) + kv_head_idx * source.k.strides[1];
  window.step_values = source.v.row(first_row) + kv_head_idx * source.v.strides[1];
  window.step_key_stride = source.k.strides[0];
  window.step_value_stride = source.v.strides[0];
  return window;
}

AttendTask make_task(const Plan& plan, int64_t task_idx, int thread_idx) {
  const Batch& batch = *plan.batch;
  const int64_t* end = plan.first_tasks + batch.num_seqs() + 1;
  const int64_t seq_idx = std::upper_bound(plan.first_tasks, end, task_idx) - plan.first_tasks - 1;
  const int64_t within = task_idx - plan.first_tasks[seq_idx];
  const int64_t kv_head_idx = within % plan.layout.num_kv_heads;
  const int64_t first_query = within / plan.layout.num_kv_heads * plan.block_tokens;
  const int64_t num_queries = batch.cu_seqlens[seq_idx + 1] - batch.cu_seqlens[seq_idx];
  const int64_t row = batch.cu_seqlens[seq_idx] + first_query;
  const int64_t head_idx = kv_head_idx * plan.group;
  const int64_t head_dim = plan.q.size(2);

  AttendTask task{};
  task.q = plan.q.row(row) + head_idx * plan.q.strides[1];
  task.q_token_stride = plan.q.strides[0];
  task.q_head_stride = plan.q.strides[1];
  task.out = plan.out.row(row) + head_idx * head_dim;
  task.out_token_stride = plan.out.strides[0];
  task.keys =
      reinterpret_cast<const uint8_t*>(plan.layer->pages) + plan.layout.key_offset(kv_head_idx);
  task.value_offset = plan.layout.value_offset(0) - plan.layout.key_offset(0);
  task.page_bytes = plan.layout.page_bytes();
  task.block_table = batch.block_tables.row(seq_idx);
  task.num_tokens = std::min(plan.block_tokens, num_queries - first_query);
  task.group = plan.group;
  task.first_visible = batch.kv_lens[seq_idx] - num_queries + first_query + 1;
  task.head_dim = head_dim;
  task.way = AttendWay::kByNumRows;
  if (!batch.is_generated.empty()) {
    task.way =
        batch.is_generated[seq_idx] != 0 ? AttendWay::kLanesOverDims : AttendWay::kLanesOverRows;
  }
  task.window = make_window(plan, seq_idx, kv_head_idx);
  task.scratch = plan.scratch + thread_idx * plan.scratch_floats;
  return task;
}

void check_shapes(const PageLayout& layout, View<float, 2> out, View<const float, 3> q,
                  const Batch& batch) {
  COMET_CHECK(q.size(0) == batch.num_tokens() && out.size(0) == q.size(0) &&
                  out.size(1) == q.size(1) * q.size(2),
              "q [{}, {}, {}], out [{}, {}], {} tokens", q.size(0), q.size(1), q.size(2),
              out.size(0), out.size(1), batch.num_tokens());
  COMET_CHECK(q.size(1) % layout.num_kv_heads == 0 && q.size(1) / layout.num_kv_heads <= kMaxGroup,
              "{} heads over {} KV heads", q.size(1), layout.num_kv_heads);
  COMET_CHECK(batch.is_generated.empty() ||
              static_cast<int64_t>(batch.is_generated.size()) == batch.num_seqs());
  COMET_CHECK(q.strides[2] == 1 && out.strides[1] == 1 && batch.block_tables.strides[1] == 1);
}

}  // namespace

void attend_batch(Context& ctx, const KvKernels& kernels, const PageLayout& layout,
                  const KvLayer& layer, View<float, 2> out, View<const float, 3> q,
                  const Batch& batch) {
  check_shapes(layout, out, q, batch);
  const ArenaScope scope(ctx.arena);
  const int64_t group = q.size(1) / layout.num_kv_heads;
  const int64_t block_tokens = std::max<int64_t>(1, kTaskRows / group);
  int64_t* first_tasks = ctx.arena.alloc_array<int64_t>(batch.num_seqs() + 1);
  first_tasks[0] = 0;
  int64_t num_macs = 0;
  for (int64_t s = 0; s < batch.num_seqs(); ++s) {
    const int64_t num_queries = batch.cu_seqlens[s + 1] - batch.cu_seqlens[s];
    const int64_t num_blocks = (num_queries + block_tokens - 1) / block_tokens;
    first_tasks[s + 1] = first_tasks[s] + num_blocks * layout.num_kv_heads;
    num_macs += 2 * num_queries * q.size(1) * q.size(2) * batch.kv_lens[s];
  }
  const int64_t scratch_floats = scratch_size(group, q.size(2));
  float* scratch = ctx.arena.alloc_array<float>(ctx.pool.num_threads() * scratch_floats);
  const Plan plan{q,     out,          &layer,      &batch,  layout,
                  group, block_tokens, first_tasks, scratch, scratch_floats};
  const int64_t num_tasks = first_tasks[batch.num_seqs()];
  if (num_macs < kParallelMacs) {
    for (int64_t i = 0; i < num_tasks; ++i) kernels.attend(make_task(plan, i, 0));
    return;
  }
  // The last tasks first: late query blocks see the most keys, and a long task begun last would
  // leave the other threads idle.
  ctx.pool.parallel_for(num_tasks, [&](int64_t task_idx, int thread_idx) {
    kernels.attend(make_task(plan, num_tasks - 1 - task_idx, thread_idx));
  });
}

}  // namespace comet::kv
