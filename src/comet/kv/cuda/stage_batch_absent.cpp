// Linked in place of the CUDA half when it is not built.
#include "comet/kv/stage_batch.h"

namespace comet::kv {

Batch stage_batch_cuda(Context& /*ctx*/, const Batch& /*batch*/) {
  COMET_CHECK(false, "a build without CUDA has no GPU");
}

}  // namespace comet::kv
