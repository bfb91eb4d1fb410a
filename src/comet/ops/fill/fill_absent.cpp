// Linked in place of the GPU's fill when it is not built.
#include "comet/ops/fill/fill.h"

namespace comet {

void random_fill_cuda(Context& /*ctx*/, const Tensor& /*out*/, const RandomFill& /*fill*/) {
  COMET_CHECK(false, "a build without CUDA fills no memory of a GPU");
}

}  // namespace comet
