// Linked in place of the CUDA backend when it is not built.
#include "comet/formats/dense/dense.h"

namespace comet::formats {

const FormatBackend& dense_cuda_backend() {
  static const FormatBackend none;
  return none;
}

}  // namespace comet::formats
