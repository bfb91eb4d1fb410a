#include "comet/train/loop/evaluation.h"

#include <algorithm>
#include <cmath>

#include "comet/ops/image_input/image_input.h"

namespace comet::train {
namespace {

constexpr int64_t kTopFew = 5;

struct Sums {
  int64_t num_images = 0, top1 = 0, top5 = 0;
  double loss = 0;
};

/// One row of logits against its label.
void count(const float* logits, int64_t num_classes, int32_t label, Sums& sums) {
  const float largest = *std::max_element(logits, logits + num_classes);
  double total = 0;
  int64_t num_better = 0;
  for (int64_t c = 0; c < num_classes; ++c) {
    total += std::exp(double{logits[c]} - double{largest});
    // Of equal ones the first is the better one; a NaN is better than all.
    const bool better = c < label ? !(logits[c] < logits[label]) : !(logits[c] <= logits[label]);
    num_better += c != label && better ? 1 : 0;
  }
  ++sums.num_images;
  sums.top1 += num_better == 0 ? 1 : 0;
  sums.top5 += num_better < kTopFew ? 1 : 0;
  sums.loss += std::log(total) - (double{logits[label]} - double{largest});
}

Tensor on_device(Context& ctx, const ImageBatch& batch) {
  const Shape shape{batch.num_images(), batch.image_size, batch.image_size, 3};
  return copy_to_device(ctx, batch.pixels, shape);
}

float logit(const Tensor& logits, int64_t i) {
  if (logits.dtype() == DType::kF32) return logits.data<float>()[i];
  return to_float(logits.data<BFloat16>()[i]);
}

}  // namespace

Result<Evaluation> evaluate(Context& ctx, models::TrainableVision& model, BatchSource& data,
                            const io::Normalization& normalization) {
  Sums sums;
  data.start(0, 0);
  ImageBatch batch;
  for (int64_t batch_idx = 0; batch_idx < data.num_batches(); ++batch_idx) {
    auto next = data.next(std::move(batch));
    if (!next) return next.error();
    batch = *std::move(next);
    const ArenaScope scope(ctx.arena);
    const Tensor pixels = on_device(ctx, batch);
    const Tensor images = nn::activations(ctx, pixels.shape());
    ImageInput input;
    input.mean = normalization.mean;
    input.std = normalization.std;
    image_input(ctx, images, pixels.view<const uint8_t, 4>(), input);
    const Tensor logits = copy_to_host(ctx, model.forward(ctx, images, {}));
    const int64_t num_classes = logits.size(1);
    std::vector<float> row(static_cast<size_t>(num_classes));
    for (int64_t i = 0; i < batch.num_images(); ++i) {
      if (batch.labels[static_cast<size_t>(i)] < 0) continue;
      for (int64_t c = 0; c < num_classes; ++c) {
        row[static_cast<size_t>(c)] = logit(logits, i * num_classes + c);
      }
      count(row.data(), num_classes, batch.labels[static_cast<size_t>(i)], sums);
    }
  }
  if (sums.num_images == 0) {
    return make_error(ErrorCode::kInvalidArgument, "no image of the validation data can be read");
  }
  const auto n = static_cast<double>(sums.num_images);
  return Evaluation{sums.num_images, sums.loss / n, static_cast<double>(sums.top1) / n,
                    static_cast<double>(sums.top5) / n};
}

}  // namespace comet::train
