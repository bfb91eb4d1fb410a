// What the CUDA backends of w8a8-int and w8a8-fp8 share: a weight on the device, and its product.
// Prepared, a weight has the tensors of DeviceSlot; its meta stays ChannelMeta.
#pragma once

#include "comet/formats/format.h"
#include "comet/formats/w8a8/cuda/gemm.h"

namespace comet::formats::w8a8 {

/// codes [n, k rounded up to 16] of the parts one below the other, zeros behind k; scales F32 [n];
/// bias F32 [n], undefined without one.
enum DeviceSlot { kDeviceCodes, kDeviceScales, kDeviceBias, kNumDeviceTensors };

Status prepare(Context& ctx, LinearWeight& weight);

/// Codes of `rows` tokens in ctx.arena: [rows, k rounded up to 128], as producers fill them.
Tensor allocate_codes(Context& ctx, const LinearWeight& weight, DType dtype, int64_t rows);

/// The product of a prepared weight; `x_scale` of row r at [r · x_scale_stride].
GemmArgs gemm_args(const LinearWeight& weight, const Tensor& codes, const float* x_scale,
                   int32_t x_scale_stride, const Rows& out);

/// sm_80 and later; sm_90 with wgmma.
bool runs_mma(const LinearWeight& weight, const Caps& caps);
bool runs_sm90(const LinearWeight& weight, const Caps& caps);
/// One pass over the weight at a share of the memory's rate: for the order of the rows.
double cost_mma_us(const LinearWeight& weight, const Caps& caps);
double cost_sm90_us(const LinearWeight& weight, const Caps& caps);

}  // namespace comet::formats::w8a8
