#include "comet/device/cuda/cuda_resources.h"
#include "comet/device/cuda/graph.h"
#include "comet/ops/replay.h"

namespace comet {

struct Replay::Captured {
  int64_t num_arena_blocks = 0;  // after the last call: the arena has grown, products are planned
  CudaGraph graph;
};

Replay::Replay() = default;
Replay::~Replay() = default;

void Replay::run(Context& ctx, const std::function<void()>& launches) {
  if (ctx.cuda == nullptr) return launches();
  if (captured_ == nullptr || captured_->num_arena_blocks != ctx.arena.num_blocks_taken()) {
    launches();
    captured_ = std::make_unique<Captured>();
    captured_->num_arena_blocks = ctx.arena.num_blocks_taken();
    return;
  }
  if (!captured_->graph.defined()) {
    captured_->graph = CudaGraph::capture(ctx.cuda->stream, launches);
  }
  captured_->graph.launch(ctx.cuda->stream);
}

}  // namespace comet
