// Sandbox: runs a Python program that a model wrote. A process of its own in new user, PID, mount,
// network and IPC namespaces: no network, every file read-only but an empty folder in memory, no
// other process to be seen; limits on time, memory, files and processes; killed with all it started
// when its time is over or Comet dies. Linux only. Caller: the task runner, for humaneval.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "comet/base/result.h"

namespace comet::study {

struct SandboxLimits {
  double wall_s = 4;  // code_eval's three seconds and the interpreter's start
  int64_t cpu_s = 4;
  int64_t memory_bytes = int64_t{1} << 30;  // of address space
  int64_t file_bytes = int64_t{1} << 20;    // of one file
  int64_t folder_bytes = int64_t{16} << 20;
  int64_t num_processes = 8;  // root is exempt outside namespaces
};

enum class ProgramOutcome {
  kPassed,  // ran to its end
  kFailed,  // an exception, an exit, a signal, a limit
  kTimedOut,
};

class Sandbox {
 public:
  /// Tries it with an empty program. kUnsupported: the system permits no namespaces and
  /// `without_namespaces` is not set, which gives up all but limits and the empty folder.
  /// kNotFound: no python3.
  static Result<Sandbox> create(bool without_namespaces, const SandboxLimits& limits = {});

  /// An error only where the system refuses, never because of the program.
  Result<ProgramOutcome> run(std::string_view program) const;

 private:
  Sandbox(std::string python, bool isolated, const SandboxLimits& limits)
      : python_(std::move(python)), isolated_(isolated), limits_(limits) {}

  std::string python_;
  bool isolated_;
  SandboxLimits limits_;
};

/// Why a task of programs does not begin without the user's word.
Error programs_not_allowed(std::string_view task);

}  // namespace comet::study
