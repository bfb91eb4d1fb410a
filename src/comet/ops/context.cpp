#include "comet/ops/context.h"

#include <cstring>

#include "comet/base/log.h"
#include "comet/ops/op_table.h"

namespace comet {
namespace {

constexpr int kMaxThreads = 1024;

/// The index in "cuda" or "cuda:<up to three digits>", or −1.
int cuda_device_idx(std::string_view device) {
  if (!device.starts_with("cuda")) return -1;
  const std::string_view rest = device.substr(4);
  if (rest.empty()) return 0;
  if (rest.size() < 2 || rest.size() > 4 || rest[0] != ':') return -1;
  int idx = 0;
  for (const char digit : rest.substr(1)) {
    if (digit < '0' || digit > '9') return -1;
    idx = idx * 10 + (digit - '0');
  }
  return idx;
}

Caps cpu_caps(CpuIsa isa, int num_threads) {
  Caps caps;
  caps.cpu_isa = isa;
  caps.num_threads = num_threads;
  caps.cpu_name = cpu_model_name();
  return caps;
}

}  // namespace

Runtime::Runtime(const Caps& caps, std::shared_ptr<CudaResources> cuda)
    : caps_(caps),
      cuda_(std::move(cuda)),
      pool_(caps.num_threads),
      arena_(device_allocator(caps.kind)),
      context_{
          {caps.kind, 0}, caps_, cuda_ == nullptr ? cpu_op_table(caps.cpu_isa) : cuda_op_table(),
          arena_,         pool_, device_allocator(caps.kind),
          cuda_.get()} {}

Result<std::unique_ptr<Runtime>> Runtime::create(std::string_view device, int num_threads,
                                                 std::string_view forced_isa) {
  const int cuda_idx = cuda_device_idx(device);
  if (device != "auto" && device != "cpu" && cuda_idx < 0) {
    return make_error(ErrorCode::kInvalidArgument, "--device '{}': expected auto, cpu or cuda[:i]",
                      device);
  }
  if (num_threads < 0 || num_threads > kMaxThreads) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--threads {}: expected 1 to {}, or 0 for all cores", num_threads,
                      kMaxThreads);
  }
  if (num_threads == 0) num_threads = default_num_threads();
  if (cuda_idx >= 0) return cuda(cuda_idx, num_threads);
  if (device == "auto" && forced_isa.empty() && cuda_built() && !cuda_device_lines().empty()) {
    auto gpu = cuda(0, num_threads);
    if (gpu.ok()) return gpu;
    log_warning("this machine's GPU is not used: {}", gpu.error().message);
  }
  const Result<CpuIsa> isa = select_cpu_isa(forced_isa);
  if (!isa) return isa.error();
  return cpu(*isa, num_threads);
}

Result<std::unique_ptr<Runtime>> Runtime::cuda(int device_idx, int num_threads) {
  Caps caps = cpu_caps(detect_cpu_isa(), num_threads);
  auto resources = open_cuda(device_idx, caps);
  if (!resources) return resources.error();
  return std::unique_ptr<Runtime>(new Runtime(caps, *std::move(resources)));
}

std::unique_ptr<Runtime> Runtime::cpu(CpuIsa isa, int num_threads) {
  return std::unique_ptr<Runtime>(new Runtime(cpu_caps(isa, num_threads), nullptr));
}

void write_to_device(Context& ctx, const Tensor& device, const Tensor& host) {
  COMET_CHECK(device.dtype() == host.dtype() && device.shape() == host.shape() &&
                  device.contiguous() && host.contiguous(),
              "{} {} into {} {}", dtype_name(host.dtype()), host.shape().to_string(),
              dtype_name(device.dtype()), device.shape().to_string());
  if (ctx.cuda != nullptr) {
    write_to_gpu(ctx, device, host);
  } else {
    std::memcpy(device.raw(), host.raw(), static_cast<size_t>(host.num_bytes()));
  }
}

}  // namespace comet
