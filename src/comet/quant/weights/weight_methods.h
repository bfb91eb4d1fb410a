// The table of weight methods (`--weights`): how a linear's weight in stored space becomes integers
// and scales. A method is a grid (plain or searched) and a way to code on it. Callers:
// layer_quantizer; the command line asks for names.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "comet/base/result.h"
#include "comet/ops/context.h"
#include "comet/quant/backend/backend.h"
#include "comet/quant/weights/weight_grid.h"

namespace comet::quant {

struct WeightProblem {
  std::string name;      // of the linear, for errors
  const Matrix& stored;  // [rows, k_padded] permuted, padded, rotated
  formats::Granularity granularity = formats::Granularity::kChannel;
  std::span<const float> importance;  // [k_padded] mean square of each stored input channel
  SiteHessian* hessian = nullptr;     // of quantized stored inputs, where needs_hessian
  double damp = 0.01;
  DType scale_type = DType::kF16;  // of group scales, and of all where codes have 8 bits
  WeightCodes codes = WeightCodes::kS4;
  bool search_scales = true;  // gptq: by MSE search; else from absmax
};

struct CodedWeight {
  WeightGrid grid;
  std::vector<int8_t> codes;  // [rows, k_padded]
};

struct WeightMethod {
  std::string_view name;  // rtn, clip, gptq
  bool needs_hessian;
  Result<CodedWeight> (*quantize)(Context& ctx, const WeightProblem& problem);
};

std::span<const WeightMethod> weight_methods();
Result<const WeightMethod*> find_weight_method(std::string_view name);

/// The values the codes stand for, [rows, k_padded].
Matrix decoded_weight(ThreadPool& pool, const CodedWeight& coded);

}  // namespace comet::quant
