// Linked in place of the CUDA backend when it is not built.
#include "comet/formats/w8a8_int/w8a8_int.h"

namespace comet::formats {

const FormatBackend& w8a8_int_cuda_backend() {
  static const FormatBackend none;
  return none;
}

}  // namespace comet::formats
