// WindowStore: the BF16 window of every sequence (kv_cache.window): the first rows and a ring of
// the recent ones, in a slot per sequence. Owned by KvCache. A step attends first and keeps its
// rows after, so that the ring needs no room for the step: what falls into it then was read before.
#pragma once

#include <cstdint>
#include <memory>

#include "comet/kv/kv_format.h"
#include "comet/tensor/tensor.h"

namespace comet::kv {

/// Bytes that one sequence's window takes in one layer; 0 where the format needs none.
int64_t window_bytes(const KvFormat& format, const KvShape& shape, const KvOptions& options);

class WindowStore {
 public:
  /// Empty: no window.
  WindowStore() = default;
  static Result<WindowStore> create(const KvShape& shape, const KvOptions& options,
                                    int64_t num_layers, int64_t num_slots);

  [[nodiscard]] bool empty() const { return storage_ == nullptr; }
  /// Throws CheckError unless the batch names a slot of its own for each sequence.
  void check_slots(const Batch& batch) const;
  /// What attention of this step reads.
  [[nodiscard]] KvWindow read(int64_t layer_idx, View<const float, 3> k,
                              View<const float, 3> v) const;
  /// Keeps what later steps may read of this one.
  void keep(Context& ctx, int64_t layer_idx, View<const float, 3> k, View<const float, 3> v,
            const Batch& batch);

 private:
  [[nodiscard]] uint16_t* layer_rows(int64_t layer_idx) const;

  int64_t num_first_ = 0;
  int64_t num_recent_ = 0;
  int64_t num_slots_ = 0;
  int64_t layer_values_ = 0;
  std::shared_ptr<Storage> storage_;
};

}  // namespace comet::kv
