// What the CUDA backends of w8a8-int and w8a8-fp8 share: a weight on the device, its input and its
// product.
// Prepared, a weight has the tensors of DeviceSlot; its meta stays ChannelMeta.
#pragma once

#include "comet/formats/cuda/producer.h"
#include "comet/formats/format.h"
#include "comet/formats/w8a8/cuda/gemm.h"

namespace comet::formats::w8a8 {

/// codes [n, k rounded up to 16] of the parts one below the other, zeros behind k; scales F32 [n];
/// bias F32 [n], undefined without one.
enum DeviceSlot { kDeviceCodes, kDeviceScales, kDeviceBias, kNumDeviceTensors };

Status prepare(Context& ctx, LinearWeight& weight);

/// Order of Activation::parts of both formats, and of the numbers in a row of scales: the last is
/// the row's.
enum InputSlot { kInputCodes, kInputScales };

/// Codes [rows, k rounded up to 128] of this type, zeros behind k, and scales of this shape.
Activation produce(Context& ctx, const LinearWeight& weight, const cuda::RowSource& source,
                   DType codes, const Shape& scales);

/// The product of a prepared weight with what produce() made.
GemmArgs gemm_args(const LinearWeight& weight, const Activation& x, const Rows& out);

// Kernel rows.
void run_mma(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out);
void run_sm90(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out);
/// sm_80 and later; sm_90 with wgmma.
bool runs_mma(const LinearWeight& weight, const Caps& caps);
bool runs_sm90(const LinearWeight& weight, const Caps& caps);
/// One pass over the weight at a share of the memory's rate: for the order of the rows.
double cost_mma_us(const LinearWeight& weight, const Caps& caps);
double cost_sm90_us(const LinearWeight& weight, const Caps& caps);

}  // namespace comet::formats::w8a8
