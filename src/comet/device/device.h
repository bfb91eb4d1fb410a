// What the program runs on: the device, what it can do, and where its memory comes from.
// COMET_CPU=portable|avx2|avx512|avx512vnni forces an instruction set that the machine has.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "comet/base/result.h"
#include "comet/tensor/tensor.h"

namespace comet {

enum class DeviceKind { kCpu, kCuda };

struct Device {
  DeviceKind kind = DeviceKind::kCpu;
  int idx = 0;
};

/// In ascending order: a machine that has one has all before it.
enum class CpuIsa { kPortable, kAvx2, kAvx512, kAvx512Vnni };

std::string_view cpu_isa_name(CpuIsa isa);
/// The best instruction set of this machine.
CpuIsa detect_cpu_isa();
/// detect_cpu_isa(), or what `forced` (the value of COMET_CPU; empty = not set) names; an error
/// when the name is unknown or the machine lacks it.
Result<CpuIsa> select_cpu_isa(std::string_view forced);
/// Every instruction set that this machine can run, kPortable first: tests loop over them.
std::vector<CpuIsa> available_cpu_isas();

struct Caps {
  CpuIsa cpu_isa = CpuIsa::kPortable;
  int num_threads = 1;
  std::string cpu_name;
  // Of the GPU that the context runs on; kCpu: none.
  DeviceKind kind = DeviceKind::kCpu;
  std::string gpu_name;
  int sm = 0;  // 80, 90, …
  int num_sms = 0;
  int64_t gpu_memory_bytes = 0;
};

/// Logical cores that affinity and the cgroup's CPU quota allow.
int default_num_threads();
std::string cpu_model_name();

/// 64-byte aligned host memory; large blocks ask for huge pages.
Allocator& host_allocator();
/// host_allocator(), or the memory of the present GPU: 256-byte aligned; running out of it throws
/// an error that says what was asked for and what is free.
Allocator& device_allocator(DeviceKind kind);

struct CudaResources;  // cuda/cuda_resources.h
/// Opens GPU device_idx: no driver, one that is too old, a card before sm_80 or a build without
/// CUDA is an error that says so. Fills the GPU's part of `caps`.
Result<std::shared_ptr<CudaResources>> open_cuda(int device_idx, Caps& caps);

/// GPUs of this machine, one line each ("NVIDIA H100 80GB HBM3, sm_90, 79 GiB"); empty without a
/// driver. Whether this build has CUDA kernels is another question: cuda_built().
std::vector<std::string> cuda_device_lines();
bool cuda_built();
/// Free memory of the present GPU, everything that uses it counted; 0 without one.
int64_t free_gpu_bytes();

}  // namespace comet
