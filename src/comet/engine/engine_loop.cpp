#include "comet/engine/engine_loop.h"

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "comet/base/log.h"

namespace comet::engine {

using Clock = std::chrono::steady_clock;

struct EngineLoop::State {
  struct Inbound {
    int64_t request_id;
    Request request;
    RequestTimes::Point submitted;
  };

  State(std::unique_ptr<Engine> given, int64_t max_queued)
      : engine(std::move(given)), capacity(engine->max_seqs() + max_queued) {}

  std::unique_ptr<Engine> engine;  // the loop's thread only, but for what never changes
  const int64_t capacity;

  mutable std::mutex mutex;  // of all below
  std::condition_variable work_came;
  std::condition_variable request_ended;
  std::vector<Inbound> inbound;
  std::vector<int64_t> cancels;
  int64_t next_id = 0;
  int64_t num_present = 0;      // queued, waiting or running
  int64_t num_undelivered = 0;  // whose last event's callback has not returned
  bool draining = false;
  bool cancel_all = false;
  bool stopping = false;
  EngineStats stats;
  Clock::time_point last_progress = Clock::now();

  std::thread thread;

  void run();
  void take_mail(std::unique_lock<std::mutex>& lock);
  void step();
  Request wrap(Request request);
};

/// Counts the request out at its last event. Whoever gets that event finds its pages free, its
/// place vacant and the counters up to date.
Request EngineLoop::State::wrap(Request request) {
  auto deliver = std::move(request.on_event);
  request.on_event = [this, deliver = std::move(deliver)](TokenEvent&& event) {
    const bool ended = event.finish != FinishReason::kNone;
    if (ended) {
      const std::lock_guard lock(mutex);
      --num_present;
      stats = engine->stats();
    }
    const bool go_on = !deliver || deliver(std::move(event));
    if (ended) {
      const std::lock_guard lock(mutex);
      --num_undelivered;
      request_ended.notify_all();
    }
    return go_on;
  };
  return request;
}

/// Moves queue and cancels to the engine; holds the lock only to take them.
void EngineLoop::State::take_mail(std::unique_lock<std::mutex>& lock) {
  std::vector<Inbound> arrived = std::exchange(inbound, {});
  std::vector<int64_t> cancelled = std::exchange(cancels, {});
  const bool all = cancel_all;
  stats.num_waiting += static_cast<int64_t>(arrived.size());  // until the next step's say otherwise
  lock.unlock();
  for (Inbound& mail : arrived) {
    engine->enqueue(mail.request_id, wrap(std::move(mail.request)), mail.submitted);
  }
  for (const int64_t request_id : cancelled) engine->cancel(request_id);
  if (all) engine->cancel_all();
}

void EngineLoop::State::step() {
  try {
    engine->step();
  } catch (const std::exception& failure) {
    log_line(LogLevel::kError, fmt::format("a step of the engine failed: {}", failure.what()));
    engine->fail_running("the engine could not run this request; see the server's log");
  }
}

void EngineLoop::State::run() {
  std::unique_lock lock(mutex);
  while (true) {
    if (!engine->has_work()) {
      work_came.wait(lock, [&] { return !inbound.empty() || stopping; });
      if (inbound.empty()) return;  // stopping, and nothing is left
      last_progress = Clock::now();
    }
    take_mail(lock);
    step();
    lock.lock();
    stats = engine->stats();
    last_progress = Clock::now();
    if (!engine->has_work() && inbound.empty()) cancels.clear();  // of requests long ended
  }
}

EngineLoop::EngineLoop(std::unique_ptr<Engine> engine, int64_t max_queued)
    : state_(std::make_unique<State>(std::move(engine), max_queued)) {
  state_->stats = state_->engine->stats();
  state_->thread = std::thread([state = state_.get()] { state->run(); });
}

EngineLoop::~EngineLoop() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->draining = state_->cancel_all = state_->stopping = true;
    state_->work_came.notify_all();
  }
  state_->thread.join();
}

Result<int64_t> EngineLoop::submit(Request request) {
  std::vector<Request> one;
  one.push_back(std::move(request));
  auto ids = submit_all(std::move(one));
  if (!ids) return ids.error();
  return ids->front();
}

Result<std::vector<int64_t>> EngineLoop::submit_all(std::vector<Request> requests) {
  for (const Request& request : requests) {
    if (auto status = state_->engine->validate(request); !status) return status.error();
  }
  const auto count = static_cast<int64_t>(requests.size());
  const RequestTimes::Point now = Clock::now();
  std::vector<int64_t> ids;
  const std::lock_guard lock(state_->mutex);
  if (state_->draining) {
    return make_error(ErrorCode::kResourceExhausted,
                      "the engine takes no more requests: it is shutting down");
  }
  if (state_->num_present + count > state_->capacity) {
    return make_error(ErrorCode::kResourceExhausted,
                      "{} requests run or wait, of at most {}; try again later",
                      state_->num_present, state_->capacity);
  }
  for (Request& request : requests) {
    ids.push_back(state_->next_id++);
    state_->inbound.push_back({ids.back(), std::move(request), now});
  }
  if (state_->num_present == 0) state_->last_progress = now;
  state_->num_present += count;
  state_->num_undelivered += count;
  state_->work_came.notify_one();
  return ids;
}

void EngineLoop::cancel(int64_t request_id) {
  const std::lock_guard lock(state_->mutex);
  if (state_->num_present > 0) state_->cancels.push_back(request_id);
}

EngineStats EngineLoop::stats() const {
  const std::lock_guard lock(state_->mutex);
  EngineStats stats = state_->stats;
  stats.num_waiting += static_cast<int64_t>(state_->inbound.size());
  return stats;
}

double EngineLoop::stalled_s() const {
  const std::lock_guard lock(state_->mutex);
  if (state_->num_present == 0) return 0;
  return std::chrono::duration<double>(Clock::now() - state_->last_progress).count();
}

bool EngineLoop::draining() const {
  const std::lock_guard lock(state_->mutex);
  return state_->draining;
}

int64_t EngineLoop::drain(std::chrono::milliseconds limit) {
  std::unique_lock lock(state_->mutex);
  state_->draining = true;
  const auto is_empty = [&] { return state_->num_undelivered == 0; };
  if (state_->request_ended.wait_for(lock, limit, is_empty)) return 0;
  const int64_t num_cancelled = state_->num_undelivered;
  state_->cancel_all = true;
  state_->request_ended.wait(lock, is_empty);
  return num_cancelled;
}

int64_t EngineLoop::max_model_len() const { return state_->engine->max_model_len(); }
int64_t EngineLoop::vocab_size() const { return state_->engine->vocab_size(); }
int64_t EngineLoop::max_seqs() const { return state_->engine->max_seqs(); }

}  // namespace comet::engine
