// Context: first argument of every op. Says where to run and lends scratch memory; Runtime owns it.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "comet/base/result.h"
#include "comet/device/device.h"
#include "comet/device/thread_pool.h"
#include "comet/tensor/tensor.h"

namespace comet {

struct OpTable;
struct CudaResources;  // device/cuda/cuda_resources.h

struct Context {
  Device device;
  const Caps& caps;
  const OpTable& ops;
  Arena& arena;         // scratch of the present step, in the device's memory: see ArenaScope
  ThreadPool& pool;     // the one compute pool
  Allocator& memory;    // of the device, for what outlives a step: weights, caches
  CudaResources* cuda;  // nullptr on a CPU
};

/// `host` where the device reads it: on a CPU itself, on a GPU a contiguous copy, there when this
/// returns. For weights and tables at load.
Tensor copy_to_device(Context& ctx, const Tensor& host);
/// Values as a tensor that borrows them and is only read.
template <typename T>
Tensor borrow(const std::vector<T>& values, const Shape& shape) {
  COMET_CHECK(shape.num_elements() == static_cast<int64_t>(values.size()), "{} values as {}",
              values.size(), shape.to_string());
  auto* bytes = reinterpret_cast<std::byte*>(const_cast<T*>(values.data()));
  return {std::make_shared<Storage>(bytes, values.size() * sizeof(T), nullptr), 0,
          DTypeOf<T>::value, shape};
}
/// The same of values that outlive the call; for what lies on a GPU alone.
template <typename T>
Tensor copy_to_device(Context& ctx, const std::vector<T>& values, const Shape& shape) {
  return copy_to_device(ctx, borrow(values, shape));
}
/// `host` into the memory of `device`, both contiguous and of one type and shape, in the order of
/// launches: those before still read the old values. `host` may change when this returns.
void write_to_device(Context& ctx, const Tensor& device, const Tensor& host);
/// The other way round, for results that the host reads: waits for all that was launched.
Tensor copy_to_host(Context& ctx, const Tensor& device);

/// Owns what a Context points to. One per process and device; not shared between threads.
class Runtime {
 public:
  /// `device`: "auto" (GPU 0 if usable, unless forced_isa), "cpu", "cuda[:i]"; num_threads 0 =
  /// default_num_threads(); forced_isa is the value of COMET_CPU ("" = best of the machine).
  static Result<std::unique_ptr<Runtime>> create(std::string_view device, int num_threads,
                                                 std::string_view forced_isa);
  /// The same for GPU device_idx; an error that says what is missing.
  static Result<std::unique_ptr<Runtime>> cuda(int device_idx, int num_threads);
  /// A CPU runtime for tests.
  static std::unique_ptr<Runtime> cpu(CpuIsa isa, int num_threads);

  Context& context() { return context_; }

 private:
  Runtime(const Caps& caps, std::shared_ptr<CudaResources> cuda);
  Caps caps_;
  std::shared_ptr<CudaResources> cuda_;  // before what lies in its memory
  ThreadPool pool_;
  Arena arena_;
  Context context_;
};

}  // namespace comet
