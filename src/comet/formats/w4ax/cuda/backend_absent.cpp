// Linked in place of the CUDA backend when it is not built.
#include "comet/formats/w4ax/w4ax.h"

namespace comet::formats {

const FormatBackend& w4ax_cuda_backend() {
  static const FormatBackend none;
  return none;
}

}  // namespace comet::formats
