#include "comet/engine/engine_loop.h"

#include <atomic>
#include <mutex>
#include <thread>

#include "comet/engine/demo_engine_case.h"

namespace comet::engine {
namespace {

using std::chrono::milliseconds;

/// Answers by slot, filled on the engine's thread.
class Inbox {
 public:
  explicit Inbox(size_t count) : answers_(count) {}

  std::function<bool(TokenEvent&&)> slot(size_t i) {
    return [this, i](const TokenEvent& event) {
      const std::lock_guard lock(mutex_);
      answers_[i].add(event);
      num_finished_ += event.finish != FinishReason::kNone ? 1 : 0;
      changed_.notify_all();
      return true;
    };
  }
  void wait_finished(int64_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return num_finished_ >= count; });
  }
  void wait_tokens(size_t i, size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return answers_[i].tokens.size() >= count; });
  }
  Answer answer(size_t i) {
    const std::lock_guard lock(mutex_);
    return answers_[i];
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Answer> answers_;
  int64_t num_finished_ = 0;
};

class EngineLoopTest : public DemoEngineTest {
 protected:
  Request request_for(Inbox& inbox, size_t i, int64_t max_tokens) {
    Request request = make_request(i, 4 + static_cast<int64_t>(i) % 40, max_tokens, 0.7);
    request.on_event = inbox.slot(i);
    return request;
  }
};

TEST_F(EngineLoopTest, ThreadsSubmitAndEveryRequestEndsOnce) {
  constexpr size_t kThreads = 4;
  constexpr size_t kEach = 8;
  Inbox inbox(kThreads * kEach);
  EngineLoop loop(make_engine(64, 8, 20), 100);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < kEach; ++i) {
        EXPECT_TRUE(loop.submit(request_for(inbox, t * kEach + i, 6)).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  inbox.wait_finished(kThreads * kEach);
  const EngineStats stats = loop.stats();
  EXPECT_EQ(stats.num_running + stats.num_waiting, 0);
  EXPECT_EQ(stats.num_free_pages, stats.num_pages);
  EXPECT_EQ(stats.num_finished_length, int64_t{kThreads * kEach});
  EXPECT_EQ(stats.num_generation_tokens, int64_t{kThreads * kEach * 6});
  EXPECT_EQ(loop.stalled_s(), 0);
  const Answer alone = run(*make_engine(512, 1), {make_request(9, 13, 6, 0.7)})[0];
  EXPECT_EQ(inbox.answer(9).tokens, alone.tokens);
}

TEST_F(EngineLoopTest, AFullQueueRefusesAndAPlaceComesBack) {
  Inbox inbox(8);
  EngineLoop loop(make_engine(64, 1), 2);
  for (size_t i = 0; i < 3; ++i) ASSERT_TRUE(loop.submit(request_for(inbox, i, 100)).ok());
  const auto refused = loop.submit(request_for(inbox, 3, 100));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(loop.submit({}).error().code, ErrorCode::kInvalidArgument);
  loop.cancel(0);
  inbox.wait_finished(1);
  ASSERT_TRUE(loop.submit(request_for(inbox, 4, 3)).ok());
  std::vector<Request> two;
  two.push_back(request_for(inbox, 5, 3));
  two.push_back(request_for(inbox, 6, 3));
  EXPECT_FALSE(loop.submit_all(std::move(two)).ok()) << "all or none";
  loop.cancel(1);
  loop.cancel(2);
  inbox.wait_finished(4);
  EXPECT_EQ(inbox.answer(4).finish, FinishReason::kLength);
  EXPECT_EQ(inbox.answer(5).num_finishes, 0);
}

TEST_F(EngineLoopTest, AThousandCancelsLeaveNothingBehind) {
  constexpr size_t kCount = 1000;
  Inbox inbox(kCount);
  EngineLoop loop(make_engine(64, 8, 12), kCount);
  Rng rng(3);
  std::vector<int64_t> ids;
  for (size_t i = 0; i < kCount; ++i) {
    ids.push_back(loop.submit(request_for(inbox, i, 100)).value());
    if (i % 50 == 0) inbox.wait_tokens(0, 1);
    for (int k = 0; k < 2; ++k) loop.cancel(ids[rng.next_below(ids.size())]);
  }
  for (const int64_t id : ids) loop.cancel(id);
  inbox.wait_finished(kCount);
  const EngineStats stats = loop.stats();
  EXPECT_EQ(stats.num_cancelled + stats.num_finished_length, int64_t{kCount});
  EXPECT_EQ(stats.num_free_pages, stats.num_pages);
}

TEST_F(EngineLoopTest, DrainWaitsThenCancels) {
  Inbox inbox(4);
  EngineLoop loop(make_engine(64, 2), 8);
  ASSERT_TRUE(loop.submit(request_for(inbox, 0, 3)).ok());
  EXPECT_EQ(loop.drain(milliseconds(600000)), 0);
  EXPECT_EQ(inbox.answer(0).finish, FinishReason::kLength);
  EXPECT_TRUE(loop.draining());
  EXPECT_EQ(loop.submit(request_for(inbox, 1, 3)).error().code, ErrorCode::kResourceExhausted);

  EngineLoop other(make_engine(64, 1), 8);
  for (size_t i = 2; i < 4; ++i) ASSERT_TRUE(other.submit(request_for(inbox, i, 120)).ok());
  EXPECT_EQ(other.drain(milliseconds(0)), 2);
  EXPECT_EQ(inbox.answer(2).finish, FinishReason::kCancelled);
  EXPECT_EQ(inbox.answer(3).finish, FinishReason::kCancelled);
}

TEST_F(EngineLoopTest, TheDestructorEndsWhatIsLeft) {
  Inbox inbox(3);
  {
    EngineLoop loop(make_engine(64, 1), 8);
    for (size_t i = 0; i < 3; ++i) ASSERT_TRUE(loop.submit(request_for(inbox, i, 120)).ok());
  }
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(inbox.answer(i).num_finishes, 1);
}

TEST_F(EngineLoopTest, CallbacksMayCancelAndSubmit) {
  Inbox inbox(2);
  EngineLoop loop(make_engine(64, 2), 8);
  Request first = make_request(0, 5, 100, 0);
  first.on_event = [&, deliver = inbox.slot(0)](TokenEvent&& event) {
    if (event.num_output_tokens == 2 && event.finish == FinishReason::kNone) {
      loop.cancel(event.request_id);
      EXPECT_TRUE(loop.submit(request_for(inbox, 1, 2)).ok());
    }
    return deliver(std::move(event));
  };
  ASSERT_TRUE(loop.submit(std::move(first)).ok());
  inbox.wait_finished(2);
  EXPECT_EQ(inbox.answer(0).finish, FinishReason::kCancelled);
  EXPECT_LE(inbox.answer(0).tokens.size(), 3U);
  EXPECT_EQ(inbox.answer(1).finish, FinishReason::kLength);
}

TEST_F(EngineLoopTest, AHangingStepShowsAsStalled) {
  Inbox inbox(1);
  EngineLoop loop(make_engine(64, 1), 8);
  std::atomic<bool> hold{true};
  Request request = make_request(0, 5, 2, 0);
  request.on_event = [&, deliver = inbox.slot(0)](TokenEvent&& event) {
    deliver(std::move(event));
    while (hold) std::this_thread::yield();
    return true;
  };
  ASSERT_TRUE(loop.submit(std::move(request)).ok());
  inbox.wait_tokens(0, 1);
  const double before = loop.stalled_s();
  std::this_thread::sleep_for(milliseconds(20));
  EXPECT_GE(loop.stalled_s(), before + 0.019);
  hold = false;
  inbox.wait_finished(1);
}

}  // namespace
}  // namespace comet::engine
