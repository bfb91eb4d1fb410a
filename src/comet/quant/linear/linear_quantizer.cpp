#include "comet/quant/linear/linear_quantizer.h"

#include <algorithm>
#include <cmath>

#include "comet/quant/fmpq/activation_rows.h"
#include "comet/quant/weights/weight_methods.h"

namespace comet::quant {
namespace {

/// Mean square of every stored channel of quantized rows.
std::vector<float> channel_importance(const Matrix& rows) {
  std::vector<double> squares(rows.cols, 0.0);
  for (int64_t t = 0; t < rows.rows; ++t) {
    for (int64_t c = 0; c < rows.cols; ++c) {
      squares[c] += static_cast<double>(rows.row(t)[c]) * rows.row(t)[c];
    }
  }
  std::vector<float> importance(rows.cols);
  for (int64_t c = 0; c < rows.cols && rows.rows > 0; ++c) {
    importance[c] = static_cast<float>(squares[c] / static_cast<double>(rows.rows));
  }
  return importance;
}

/// Rows side by side, their sums in order: the same for any number of threads.
template <typename RowSum>
double sum_over_rows(ThreadPool& pool, int64_t num_rows, RowSum row_sum) {
  std::vector<double> sums(num_rows);
  pool.parallel_for(num_rows, [&](int64_t i, int) { sums[i] = row_sum(i); });
  double total = 0.0;
  for (const double sum : sums) total += sum;
  return total;
}

double sum_of_squares(ThreadPool& pool, const Matrix& a) {
  return sum_over_rows(pool, a.rows, [&](int64_t i) {
    double total = 0.0;
    for (int64_t c = 0; c < a.cols; ++c) total += static_cast<double>(a.row(i)[c]) * a.row(i)[c];
    return total;
  });
}

double sum_of_squared_differences(ThreadPool& pool, const Matrix& a, const Matrix& b) {
  return sum_over_rows(pool, a.rows, [&](int64_t i) {
    double total = 0.0;
    for (int64_t c = 0; c < a.cols; ++c) {
      const double d = static_cast<double>(a.row(i)[c]) - b.row(i)[c];
      total += d * d;
    }
    return total;
  });
}

/// Signal against error; the cap stands for "no error".
double decibels(double signal, double noise) {
  constexpr double kMaxDb = 200.0;
  if (noise <= signal * 1e-20) return kMaxDb;
  return std::clamp(10.0 * std::log10(signal / noise), -kMaxDb, kMaxDb);
}

/// Of the linear's output.
double output_snr_db(Backend& backend, const Matrix& x, const Matrix& weight,
                     const Matrix& quantized_x, const Matrix& decoded) {
  const Matrix want = backend.product(x, weight);
  const Matrix got = backend.product(quantized_x, decoded);
  ThreadPool& pool = backend.host.pool;
  return decibels(sum_of_squares(pool, want), sum_of_squared_differences(pool, want, got));
}

/// Formats that hold a site's channels as they are.
void drop_padding(formats::QuantizedWeight& weight) {
  formats::SiteLayout& site = weight.site;
  if (site.k == site.k_padded) return;
  const int64_t rows = weight.num_rows();
  for (int64_t n = 0; n < rows; ++n) {
    std::copy_n(weight.codes.begin() + n * site.k_padded, site.k,
                weight.codes.begin() + n * site.k);
  }
  weight.codes.resize(rows * site.k);
  site.k_padded = site.k;
  site.perm.clear();
}

/// w4a16 has scales of groups: one group of all channels.
void make_one_group(formats::QuantizedWeight& weight) {
  drop_padding(weight);
  weight.granularity = formats::Granularity::kGroup;
  weight.group_size = weight.site.k;
  weight.group_scale = std::move(weight.channel_scale);
  weight.channel_scale.clear();
  weight.scale_type = DType::kF32;
}

formats::QuantizedWeight to_quantized_weight(const LinearProblem& problem, CodedWeight coded) {
  formats::QuantizedWeight weight;
  weight.name = problem.spec.name;
  weight.parts = problem.spec.parts;
  weight.part_rows = problem.spec.part_rows;
  weight.site = problem.layout;
  weight.granularity = coded.grid.granularity;
  weight.codes = std::move(coded.codes);
  weight.channel_scale = std::move(coded.grid.channel_scale);
  weight.group_scale = std::move(coded.grid.group_scale);
  weight.scale_type = coded.grid.scale_type;
  weight.group_multiplier = std::move(coded.grid.group_multiplier);
  weight.group_offset = std::move(coded.grid.group_offset);
  weight.bias = problem.bias;
  if (coded.grid.codes != WeightCodes::kS4) {
    weight.code_type =
        coded.grid.codes == WeightCodes::kE4M3 ? formats::CodeType::kE4M3 : formats::CodeType::kInt;
    weight.channel_scale_type = coded.grid.scale_type;
    drop_padding(weight);
  } else if (problem.layout.scale == formats::ActScale::kA16 &&
             weight.granularity == formats::Granularity::kChannel) {
    make_one_group(weight);
  }
  return weight;
}

}  // namespace

Result<QuantizedLinear> quantize_linear(Backend& backend, const QuantizeOptions& options,
                                        const LinearProblem& problem) {
  ThreadPool& pool = backend.host.pool;
  const bool measured = problem.x.rows > 0 && options.codes != WeightCodes::kE4M3;
  const Matrix quantized_x =
      measured ? quantized_rows(pool, problem.layout, problem.x) : Matrix(0, problem.x.cols);
  const std::vector<float> importance = channel_importance(quantized_x);
  const auto method = find_weight_method(options.weights);
  if (!method) return method.error();
  auto coded =
      (*method)->quantize(backend.host, {problem.spec.name, problem.weight, options.granularity,
                                         importance, problem.hessian, options.damp,
                                         options.scale_type, options.codes, options.search_scales});
  if (!coded) return coded.error();
  const Matrix decoded = decoded_weight(pool, *coded);
  QuantizedLinear result;
  LinearReport& report = result.report;
  report.name = problem.spec.name;
  report.rows = problem.weight.rows;
  report.blocks = problem.layout.num_blocks();
  report.int8_blocks = problem.layout.int8_blocks;
  report.clip = problem.layout.clip;
  const double weight_error = sum_of_squared_differences(pool, problem.weight, decoded);
  report.weight_mse = weight_error / static_cast<double>(problem.weight.rows * problem.layout.k);
  report.weight_snr_db = decibels(sum_of_squares(pool, problem.weight), weight_error);
  if (measured) {
    report.output_snr_db = output_snr_db(backend, problem.x, problem.weight, quantized_x, decoded);
  }
  result.weight = to_quantized_weight(problem, *std::move(coded));
  return result;
}

}  // namespace comet::quant
