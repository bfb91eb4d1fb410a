#include "comet/ops/packed_product/packed_tile_simd.h"

namespace comet {

const PackedIsa kPackedAvx2{kPackedRows, kPackedWidth, multiply_packed, spin_packed};

}  // namespace comet
