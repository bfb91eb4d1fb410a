// EngineLoop: the one thread that drives an Engine, and the thread-safe door to it. Callers:
// server, chat. Events come on that thread; nothing here blocks on a callback's work but the loop
// itself.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "comet/base/result.h"
#include "comet/engine/engine.h"

namespace comet::engine {

class EngineLoop {
 public:
  /// Starts the thread. At most engine->max_seqs() + max_queued requests are in the house at once.
  /// From now on only the loop touches the engine and its Context.
  EngineLoop(std::unique_ptr<Engine> engine, int64_t max_queued);
  EngineLoop(const EngineLoop&) = delete;
  EngineLoop& operator=(const EngineLoop&) = delete;
  /// Cancels what is left (each request still gets its last event) and joins the thread.
  ~EngineLoop();

  /// Any thread. kInvalidArgument: the request can never run. kResourceExhausted: the queue is full
  /// or the loop drains. Events may come before this returns; ids grow with every call.
  Result<int64_t> submit(Request request);
  /// All of them or none, with consecutive places in the queue: n > 1, lists of prompts.
  Result<std::vector<int64_t>> submit_all(std::vector<Request> requests);
  /// Any thread, on_event included. Takes effect within one step: pages are free and the last event
  /// (kCancelled) has come. Nothing happens when the request has ended.
  void cancel(int64_t request_id);

  /// Any thread: a snapshot of after the last step; num_waiting counts the queue too.
  [[nodiscard]] EngineStats stats() const;
  /// Seconds without a finished step while work waits; 0 when idle. Grows when a step hangs.
  [[nodiscard]] double stalled_s() const;
  [[nodiscard]] bool draining() const;

  /// Takes nothing more and waits until all that was taken has ended; at `limit` the rest is
  /// cancelled. Returns how many were. Not from on_event. May be called again.
  int64_t drain(std::chrono::milliseconds limit);

  /// What does not change while the loop lives; any thread.
  [[nodiscard]] int64_t max_model_len() const;
  [[nodiscard]] int64_t vocab_size() const;
  [[nodiscard]] int64_t max_seqs() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace comet::engine
