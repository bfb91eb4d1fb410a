// Linked in place of the GPU's attention when it is not built.
#include "comet/kv/cuda/kv_backend.h"

namespace comet::kv {

Status check_cuda_cache(const KvFormat& format, const KvShape& /*shape*/,
                        const KvOptions& /*options*/) {
  return make_error(ErrorCode::kUnsupported, "KV cache {}: this Comet was built without CUDA",
                    format.name);
}

std::shared_ptr<Storage> make_gpu_counter() { return nullptr; }

void attend_cuda(Context& /*ctx*/, const KvAttendArgs& /*args*/) {
  COMET_CHECK(false, "a build without CUDA has no GPU");
}

}  // namespace comet::kv
