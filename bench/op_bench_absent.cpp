// Linked in place of the GPU's operators when CUDA is not built.
#include "bench/op_bench.h"

namespace comet::bench {

std::vector<OpTiming> time_ops(Context& /*ctx*/, const io::ModelConfig& /*config*/,
                               int64_t /*rows*/) {
  COMET_CHECK(false, "a build without CUDA has no operators for a GPU");
}

}  // namespace comet::bench
