// Linked in place of the CUDA graphs when they are not built.
#include "comet/models/decode_graphs.h"

namespace comet::models {

struct DecodeGraphs::Cached {};

DecodeGraphs::DecodeGraphs(Context& ctx, const LlamaModel& model, kv::KvCache& cache)
    : ctx_(ctx), model_(model), cache_(cache) {}

DecodeGraphs::~DecodeGraphs() = default;

Tensor DecodeGraphs::forward(const Batch& batch) { return model_.forward(ctx_, batch, cache_); }

}  // namespace comet::models
