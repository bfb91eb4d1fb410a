// Linked in place of the CUDA backend when it is not built.
#include "comet/formats/w8a8_fp8/w8a8_fp8.h"

namespace comet::formats {

const FormatBackend& w8a8_fp8_cuda_backend() {
  static const FormatBackend none;
  return none;
}

}  // namespace comet::formats
