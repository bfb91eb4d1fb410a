// Products of two float matrices in the three forms that a linear layer trains with, and the
// gradient of its bias. Inference multiplies through formats/ instead. Callers: nn.
#pragma once

#include "comet/ops/context.h"
#include "comet/tensor/rows.h"

namespace comet {

enum class ProductForm {
  kForward,  // out [m, n] = a [m, k] · b [n, k]ᵀ: x and the weight give y
  kData,     // out [m, n] = a [m, k] · b [k, n]: dy and the weight give dx
  kWeight,   // out [m, n] = a [k, m]ᵀ · b [k, n]: dy and x give dweight
};

struct ProductEnd {
  View<const float, 1> bias;  // [n], added to every row; empty: none
  bool add_to_out = false;    // out += instead of out =
};

/// Sums in FP32. On a CPU all matrices are FP32; on a GPU a and b have one type, out that or FP32.
/// The same bits whatever the number of threads.
void product(Context& ctx, Rows out, ConstRows a, ConstRows b, ProductForm form,
             const ProductEnd& end = {});
/// sums [n] += over the rows of x [rows, n]. The same bits whatever the number of threads.
void column_sums(Context& ctx, View<float, 1> sums, ConstRows x);

// The slots of the CPU tables.
void product_cpu(Context& ctx, Rows out, ConstRows a, ConstRows b, ProductForm form,
                 const ProductEnd& end);
void column_sums_cpu(Context& ctx, View<float, 1> sums, ConstRows x);

}  // namespace comet
