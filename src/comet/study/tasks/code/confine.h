// What happens between fork and exec of a program in the sandbox. Only system calls: the process
// had threads. Caller: sandbox.cpp.
#pragma once

#include "comet/study/tasks/code/sandbox.h"

namespace comet::study {

/// Everything made before the fork.
struct Confinement {
  const SandboxLimits* limits;
  const char* folder;         // empty; becomes the working folder
  const char* mount_options;  // of the file system in memory over it
  const char* id_maps[2];     // uid and gid, as /proc/self/uid_map takes them
  char* const* arguments;
  char* const* environment;
  int program_fd;  // becomes standard input
  int report_fd;   // becomes 3: where the program says that it reached its end
  bool isolated;
};

/// First byte of a report on what the system refused; its number follows.
inline constexpr char kRefused = '!';

/// In the forked child. Ends as the program does, or with a report.
[[noreturn]] void run_confined(const Confinement& confinement);

}  // namespace comet::study
