// Linked in place of the CUDA backend when it is not built.
#include "comet/formats/w4a16/w4a16.h"

namespace comet::formats {

const FormatBackend& w4a16_cuda_backend() {
  static const FormatBackend none;
  return none;
}

}  // namespace comet::formats
