#include "comet/ops/context.h"

#include "comet/ops/op_table.h"

namespace comet {
namespace {

constexpr int kMaxThreads = 1024;

/// "cuda" or "cuda:<digits>".
bool is_cuda_name(std::string_view device) {
  if (!device.starts_with("cuda")) return false;
  const std::string_view rest = device.substr(4);
  if (rest.empty()) return true;
  return rest.size() > 1 && rest[0] == ':' &&
         rest.find_first_not_of("0123456789", 1) == std::string_view::npos;
}

Error no_cuda_error(std::string_view device) {
  std::string gpus;
  for (const std::string& line : cuda_device_lines()) gpus += (gpus.empty() ? "" : "; ") + line;
  return make_error(ErrorCode::kUnsupported,
                    "--device {}: this version has no CUDA kernels yet; use --device cpu (GPUs of "
                    "this machine: {})",
                    device, gpus.empty() ? "none found" : gpus);
}

}  // namespace

Runtime::Runtime(CpuIsa isa, int num_threads)
    : caps_{isa, num_threads, cpu_model_name()},
      pool_(num_threads),
      arena_(host_allocator()),
      context_{Device{}, caps_, cpu_op_table(isa), arena_, pool_} {}

Result<std::unique_ptr<Runtime>> Runtime::create(std::string_view device, int num_threads,
                                                 std::string_view forced_isa) {
  if (is_cuda_name(device)) return no_cuda_error(device);
  if (device != "auto" && device != "cpu") {
    return make_error(ErrorCode::kInvalidArgument, "--device '{}': expected auto, cpu or cuda[:i]",
                      device);
  }
  if (num_threads < 0 || num_threads > kMaxThreads) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--threads {}: expected 1 to {}, or 0 for all cores", num_threads,
                      kMaxThreads);
  }
  const Result<CpuIsa> isa = select_cpu_isa(forced_isa);
  if (!isa) return isa.error();
  return cpu(*isa, num_threads == 0 ? default_num_threads() : num_threads);
}

std::unique_ptr<Runtime> Runtime::cpu(CpuIsa isa, int num_threads) {
  return std::unique_ptr<Runtime>(new Runtime(isa, num_threads));
}

}  // namespace comet
