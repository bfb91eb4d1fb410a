// Linked in place of the CUDA backend where it is not built.
#include "comet/quant/backend/backend.h"

namespace comet::quant {

std::unique_ptr<Backend> make_cuda_backend(Context& /*ctx*/) {
  COMET_CHECK(false, "a build without CUDA has no GPU to quantize on");
}

}  // namespace comet::quant
