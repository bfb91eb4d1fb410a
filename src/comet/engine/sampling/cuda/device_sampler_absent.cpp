// Linked in place of the GPU's sampler when CUDA is not built: no Context of a GPU exists then.
#include "comet/base/check.h"
#include "comet/engine/sampling/device_sampler.h"

namespace comet::engine {

struct DeviceSampler::State {};

DeviceSampler::DeviceSampler(Context& /*ctx*/) {
  COMET_CHECK(false, "a build without CUDA has no sampler for a GPU");
}
DeviceSampler::~DeviceSampler() = default;
void DeviceSampler::start(const Tensor& /*logits*/, std::span<const DeviceDraw> /*draws*/) {}
const int32_t* DeviceSampler::device_tokens() const { return nullptr; }
std::span<const DrawnToken> DeviceSampler::wait() { return {}; }

}  // namespace comet::engine
