// Linked in place of the GPU's timers when the CUDA backend is not built: no Context has a GPU
// then.
#include "bench/gpu_library.h"
#include "bench/gpu_timer.h"

namespace comet::bench {
namespace {

[[noreturn]] void refuse() {
  check_failed("cuda_built()", __FILE__, __LINE__, "no GPU in this build");
}

}  // namespace

GpuTiming time_on_gpu(Context& /*ctx*/, const std::function<void(int64_t)>& /*call*/,
                      const GpuTimerOptions& /*options*/) {
  refuse();
}
int64_t num_rotating_buffers(int64_t /*bytes*/) { refuse(); }
double measure_gpu_copy_gb_per_s(Context& /*ctx*/) { refuse(); }
GpuState read_gpu_state(Context& /*ctx*/) { refuse(); }
Json state_json(const GpuState& /*state*/) { refuse(); }
LibraryTimes time_library(Context& /*ctx*/, const ProductShape& /*shape*/,
                          const GpuTimerOptions& /*options*/) {
  refuse();
}

}  // namespace comet::bench
