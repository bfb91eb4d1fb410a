#include "comet/formats/w8a8_int/cpu/packed/packed_weights.h"

#include <algorithm>

#include "comet/formats/float_input.h"
#include "comet/formats/w8a8/channel_codes.h"

namespace comet::formats::w8a8_int::cpu {
namespace {

/// Columns of the last panel, as laid.
int64_t last_width(const CodesIsa& isa, int64_t n) {
  const int64_t rest = n % isa.width;
  return rest == 0 || rest > isa.width / 2 ? isa.width : isa.width / 2;
}

}  // namespace

void pack_codes(const CodesIsa& isa, LinearWeight& weight) {
  const int64_t n = weight.spec.n();
  const int64_t k = weight.spec.k;
  const int64_t k_padded = ceil_div(k, 4) * 4;
  const int64_t n_whole = ceil_div(n, isa.width) * isa.width;
  const int64_t n_padded = n_whole - isa.width + last_width(isa, n);
  const Tensor panels = allocate_tensor(host_allocator(), DType::kI8, {n_padded * k_padded});
  const Tensor offsets = allocate_tensor(host_allocator(), DType::kI32, {n_whole});
  std::fill_n(panels.data<int8_t>(), panels.num_elements(), int8_t{0});
  std::fill_n(offsets.data<int32_t>(), n_whole, 0);
  for (int64_t row = 0; row < n; ++row) {
    const int8_t* codes = weight.tensors[0].data<int8_t>() + row * k;
    const int64_t column = row / isa.width * isa.width;
    const int64_t width = column + isa.width < n ? isa.width : last_width(isa, n);
    int8_t* panel = panels.data<int8_t>() + column * k_padded + (row - column) * 4;
    int64_t sum = 0;
    for (int64_t i = 0; i < k; ++i) {
      panel[i / 4 * width * 4 + i % 4] = codes[i];
      sum += codes[i];
    }
    // |Σ w| · 128 < 2³¹ up to kMaxChannels.
    offsets.data<int32_t>()[row] = static_cast<int32_t>(-sum * isa.flip);
  }
  std::vector<Tensor> packed{panels, offsets};
  if (weight.spec.has_bias) {
    const Tensor bias = allocate_tensor(host_allocator(), DType::kF32, {n});
    for (int64_t i = 0; i < n; ++i) {
      bias.data<float>()[i] = float_element(w8a8::bias_of(weight, 0), i);
    }
    packed.push_back(bias);
  }
  weight.tensors = std::move(packed);
}

}  // namespace comet::formats::w8a8_int::cpu
