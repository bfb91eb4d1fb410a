// Replay: launches that come again and again at the same addresses, which a GPU replays as one CUDA
// graph. Callers: the training loop. On a CPU they are called each time.
#pragma once

#include <functional>
#include <memory>

#include "comet/ops/context.h"

namespace comet {

class Replay {
 public:
  Replay();
  Replay(const Replay&) = delete;
  Replay& operator=(const Replay&) = delete;
  ~Replay();

  /// Does what `launches` does, which must be the same each time. On a GPU it is called twice, then
  /// replayed: it may take memory from the arena alone, may not wait or copy from or to the host,
  /// and what it reads stays where it is. Call with the arena as the call before found it. When
  /// the arena has grown since, it is called twice again.
  void run(Context& ctx, const std::function<void()>& launches);

 private:
  struct Captured;
  std::unique_ptr<Captured> captured_;  // nullptr on a CPU
};

}  // namespace comet
