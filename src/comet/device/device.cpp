#include "comet/device/device.h"

#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <new>
#include <thread>

namespace comet {
namespace {

constexpr std::array<std::string_view, 4> kIsaNames{"portable", "avx2", "avx512", "avx512vnni"};

/// CPU quota of the cgroup in cores, rounded up; a large number without one.
int cgroup_cpu_limit() {
  long long quota = 0;
  long long period = 0;
  std::ifstream unified("/sys/fs/cgroup/cpu.max");
  if (unified >> quota >> period && period > 0)
    return static_cast<int>((quota + period - 1) / period);
  std::ifstream quota_file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
  std::ifstream period_file("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  if (quota_file >> quota && period_file >> period && quota > 0 && period > 0) {
    return static_cast<int>((quota + period - 1) / period);
  }
  return 1 << 20;
}

class HostAllocator final : public Allocator {
 public:
  std::byte* allocate(size_t bytes) override {
    // Large blocks come straight from the kernel: zero pages until touched, 2 MiB pages where it
    // can.
    if (bytes >= kMapBytes) {
      void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (data == MAP_FAILED) throw std::bad_alloc();
      madvise(data, bytes, MADV_HUGEPAGE);
      return static_cast<std::byte*>(data);
    }
    const size_t padded = std::max<size_t>((bytes + 63) / 64 * 64, 64);
    void* data = std::aligned_alloc(64, padded);
    if (data == nullptr) throw std::bad_alloc();
    return static_cast<std::byte*>(data);
  }
  void free(std::byte* data, size_t bytes) override {
    if (bytes >= kMapBytes) {
      munmap(data, bytes);
    } else {
      std::free(data);
    }
  }

 private:
  static constexpr size_t kMapBytes = size_t{4} << 20;
};

}  // namespace

std::string_view cpu_isa_name(CpuIsa isa) { return kIsaNames.at(static_cast<size_t>(isa)); }

CpuIsa detect_cpu_isa() {
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi2");
  if (!avx2) return CpuIsa::kPortable;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (!avx512) return CpuIsa::kAvx2;
  return __builtin_cpu_supports("avx512vnni") ? CpuIsa::kAvx512Vnni : CpuIsa::kAvx512;
}

Result<CpuIsa> select_cpu_isa(std::string_view forced) {
  const CpuIsa best = detect_cpu_isa();
  if (forced.empty()) return best;
  const auto* const it = std::find(kIsaNames.begin(), kIsaNames.end(), forced);
  if (it == kIsaNames.end()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "COMET_CPU='{}': expected portable, avx2, avx512 or avx512vnni", forced);
  }
  const auto isa = static_cast<CpuIsa>(it - kIsaNames.begin());
  if (isa > best) {
    return make_error(ErrorCode::kUnsupported, "COMET_CPU='{}': this machine has at most {}",
                      forced, cpu_isa_name(best));
  }
  return isa;
}

std::vector<CpuIsa> available_cpu_isas() {
  std::vector<CpuIsa> isas;
  for (int i = 0; i <= static_cast<int>(detect_cpu_isa()); ++i)
    isas.push_back(static_cast<CpuIsa>(i));
  return isas;
}

int default_num_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int cores = static_cast<int>(std::thread::hardware_concurrency());
  if (sched_getaffinity(0, sizeof(set), &set) == 0) cores = CPU_COUNT(&set);
  return std::max(1, std::min(cores, cgroup_cpu_limit()));
}

std::string cpu_model_name() {
  std::ifstream info("/proc/cpuinfo");
  std::string line;
  while (std::getline(info, line)) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown CPU";
}

Allocator& host_allocator() {
  static HostAllocator allocator;
  return allocator;
}

}  // namespace comet
