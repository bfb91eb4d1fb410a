// Linked in place of the GPU's timings when CUDA is not built.
#include "bench/cpu_forward.h"
#include "bench/vision_bench.h"

namespace comet::bench {

ForwardTiming time_forward(Context& ctx, const models::VisionModel& model, int64_t batch,
                           int64_t size) {
  return time_cpu_forward(ctx, model, batch, size);
}

ForwardTiming time_training(Context& /*ctx*/, const models::TrainableVisionConfig& /*config*/,
                            int64_t /*batch*/, int64_t /*size*/) {
  COMET_CHECK(false, "a build without CUDA trains on no GPU");
}

std::vector<OpTiming> time_image_ops(Context& /*ctx*/, const models::VisionConfig& /*config*/,
                                     int64_t /*batch*/, int64_t /*size*/) {
  COMET_CHECK(false, "a build without CUDA has no operators for a GPU");
}

}  // namespace comet::bench
