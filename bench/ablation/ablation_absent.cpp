// Linked in place of the ablation's kernels when CUDA is not built.
#include "bench/ablation/ablation.h"

namespace comet::bench {

std::vector<AblationTiming> time_ablation(Context& /*ctx*/, const AblationCase& /*what*/,
                                          uint64_t /*seed*/) {
  COMET_CHECK(false, "a build without CUDA has no kernels for the ablation");
}

}  // namespace comet::bench
