// Writes a checkpoint of random weights (models/synthetic.h), a layer at a time: no more than one
// and a table of embeddings are in memory. Its model is the one that make_synthetic_model makes of
// the same options. Callers: `comet quantize --synthetic`.
#pragma once

#include <functional>
#include <string>

#include "comet/models/synthetic.h"

namespace comet::quant {

struct SyntheticCheckpointRequest {
  std::string name;  // of models::synthetic_names()
  models::SyntheticOptions options;
  std::string out_dir;
  bool force = false;
  std::string tokenizer_dir;  // whose tokenizer and template are copied; empty: none
  std::function<void(int64_t num_done)> on_layer;
};

/// On a CPU context; returns the bytes of all tensors. OUT appears whole or not at all; a disk
/// without room for it is an error before the first byte.
Result<int64_t> write_synthetic_checkpoint(Context& ctx, const SyntheticCheckpointRequest& request);

}  // namespace comet::quant
