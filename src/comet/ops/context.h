// Context: first argument of every op. Says where to run and lends scratch memory; Runtime owns it.
#pragma once

#include <memory>
#include <string_view>

#include "comet/base/result.h"
#include "comet/device/device.h"
#include "comet/device/thread_pool.h"
#include "comet/tensor/tensor.h"

namespace comet {

struct OpTable;

struct Context {
  Device device;
  const Caps& caps;
  const OpTable& ops;
  Arena& arena;      // scratch of the present step: see ArenaScope
  ThreadPool& pool;  // the one compute pool
};

/// Owns what a Context points to. One per process and device; not shared between threads.
class Runtime {
 public:
  /// `device` is "auto", "cpu" or "cuda[:i]"; num_threads 0 = default_num_threads(); forced_isa is
  /// the value of COMET_CPU ("" = best of the machine).
  static Result<std::unique_ptr<Runtime>> create(std::string_view device, int num_threads,
                                                 std::string_view forced_isa);
  /// A CPU runtime for tests.
  static std::unique_ptr<Runtime> cpu(CpuIsa isa, int num_threads);

  Context& context() { return context_; }

 private:
  Runtime(CpuIsa isa, int num_threads);
  Caps caps_;
  ThreadPool pool_;
  Arena arena_;
  Context context_;
};

}  // namespace comet
