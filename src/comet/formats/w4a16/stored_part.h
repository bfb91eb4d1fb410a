// StoredPart: one part of a 4-bit linear as words, scales and zero points in the order in which
// compressed-tensors lays them, read from any of the layouts that Comet knows. Private to w4a16:
// the readers make it, bind arranges it.
#pragma once

#include <string>
#include <vector>

#include "comet/formats/schemes/scheme.h"

namespace comet::formats::w4a16 {

struct StoredPart {
  Tensor words;                   // I32 [rows, ⌈k/8⌉]
  Tensor scales;                  // BF16, F16 or F32 [rows, groups]
  Tensor zeros;                   // U8 [rows, groups]; undefined: all 8
  std::vector<int32_t> group_of;  // [k] as g_idx says; empty: neighbours
};

/// What a reader is asked for.
struct PartRequest {
  std::string name;  // "model.layers.0.self_attn.q_proj"
  int64_t rows = 0;
  int64_t k = 0;
  Scheme scheme;
  std::string where;  // opens errors about values: "" or "<folder>: "

  [[nodiscard]] int64_t num_groups() const {
    return scheme.group_size == 0 ? 1 : k / scheme.group_size;
  }
};

Result<StoredPart> read_pack_quantized(const PartRequest& part, const TensorSource& tensors);
Result<StoredPart> read_gptq(const PartRequest& part, const TensorSource& tensors);
Result<StoredPart> read_awq(const PartRequest& part, const TensorSource& tensors);

/// g_idx [k] as numbers below num_groups, every group of the same size; empty when channels are in
/// order already.
Result<std::vector<int32_t>> read_group_index(const PartRequest& part, const std::string& name,
                                              const TensorSource& tensors);

Tensor allocate(DType dtype, const Shape& shape);

}  // namespace comet::formats::w4a16
