// The CUDA backend of this format: its kernels come with it.
#include "comet/formats/w4ax/w4ax.h"

namespace comet::formats {

const FormatBackend& w4ax_cuda_backend() {
  static const FormatBackend none;
  return none;
}

}  // namespace comet::formats
