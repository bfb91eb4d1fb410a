#include "comet/client/ramp/rate_steps.h"

#include <algorithm>
#include <cmath>

#include "comet/client/load/arrivals.h"
#include "comet/client/load/prompts.h"
#include "comet/client/load/sender.h"

namespace comet::client {
namespace {

constexpr int64_t kProbeTokens = 16;
constexpr double kTickS = 0.02;
constexpr double kLoadedShare = 1.3;  // of a lone request's times: where the first filling aims
constexpr int kFirstRounds = 3;       // fillings behind watchings, of a run's first step
constexpr int kLaterRounds = 2;
constexpr double kMostGrowth = 1.6;  // of a round
constexpr double kCloseShare = 0.05;
constexpr double kUsefulShare = 0.25;  // of more in flight that must come back as throughput
constexpr double kGoldenShare = 0.6180339887498949;  // its multiples spread evenly over (0, 1)
constexpr uint64_t kDropStream = 0xD20;

/// What one request alone says of the times to come.
struct Alone {
  double ttft_s = 0;
  double gap_s = 0;
};

class Steps {
 public:
  Steps(EventLoop& loop, Sender& sender, const RateStepsOptions& options,
        const std::function<std::optional<double>(const RateWindow&)>& next)
      : loop_(loop),
        sender_(sender),
        options_(options),
        next_(next),
        drops_(options.seed, kDropStream) {}

  Result<Alone> probe() {
    RequestRecord record;
    Ask ask = ask_of_age(0);
    ask.output_tokens = std::min(kProbeTokens, options_.profile.output_tokens);
    ask.on_done = [] {};
    sender_.send(record, ask);
    loop_.run();
    if (!record.error_kind.empty()) return Error{ErrorCode::kIo, record.error};
    Alone alone{record.ttft_s, 0};
    if (!record.gaps_s.empty()) {
      alone.gap_s = (record.latency_s - record.ttft_s) / static_cast<double>(record.gaps_s.size());
    }
    return alone;
  }

  void run(const Alone& alone, double rate_per_s) {
    const double life_s =
        alone.ttft_s + alone.gap_s * static_cast<double>(options_.profile.output_tokens);
    begin_step(rate_per_s, rate_per_s * life_s * kLoadedShare, kFirstRounds);
    loop_.run();
  }

 private:
  enum class Phase { kFilling, kWatching, kMeasuring };

  [[nodiscard]] double wanted_tokens_per_s() const {
    return rate_per_s_ * static_cast<double>(options_.profile.output_tokens);
  }

  void begin_step(double rate_per_s, double target, int rounds) {
    rate_per_s_ = rate_per_s;
    rounds_left_ = rounds;
    watched_in_flight_ = 0;
    step_begin_s_ = loop_.now_s();
    ++step_idx_;
    arrivals_.emplace(Arrivals{Arrivals::Kind::kConstant, 1, rate_per_s}, options_.seed);
    schedule_arrival(step_idx_);
    fill_to(target);
    tick();
  }

  void schedule_arrival(int64_t step_idx) {
    const double at_s = step_begin_s_ + arrivals_->next_s();
    loop_.at(at_s, [this, at_s, step_idx] {
      if (step_idx != step_idx_) return;  // the rate is another one by now
      send(/*age=*/0, at_s);
      schedule_arrival(step_idx);
    });
  }

  void enter(Phase phase) {
    phase_ = phase;
    phase_begin_s_ = loop_.now_s();
    phase_begin_tokens_ = num_tokens_;
  }

  void tick() {
    const double now_s = loop_.now_s();
    const double in_phase_s = now_s - phase_begin_s_;
    const bool late = now_s - step_begin_s_ >= options_.max_settle_s;
    switch (phase_) {
      case Phase::kFilling:
        if (num_fills_waiting_ == 0 || late) enter(Phase::kWatching);
        break;
      case Phase::kWatching:
        if (in_phase_s >= options_.watch_s) end_watching(in_phase_s, late);
        break;
      case Phase::kMeasuring:
        if (in_phase_s >= options_.window_s && !end_window(now_s)) return loop_.stop();
        break;
    }
    loop_.at(now_s + kTickS, [this, step_idx = step_idx_] {
      if (step_idx == step_idx_) tick();
    });
  }

  void end_watching(double watched_s, bool late) {
    const double tokens_per_s = static_cast<double>(num_tokens_ - phase_begin_tokens_) / watched_s;
    const double growth = growth_to_rate(tokens_per_s);
    const bool saturated = growth > 1 && is_saturated(tokens_per_s);
    watched_in_flight_ = num_live_;
    watched_tokens_per_s_ = tokens_per_s;
    if (rounds_left_-- <= 0 || late || saturated || std::abs(growth - 1) < kCloseShare) {
      enter(Phase::kMeasuring);
      in_flight_begin_ = num_live_;
      return;
    }
    fill_to(static_cast<double>(num_live_) * growth);
  }

  /// By how much more in flight the server would give what the rate asks for: Little's law, which
  /// holds while the time of a token stays as it is; the next watching sees what it became.
  [[nodiscard]] double growth_to_rate(double tokens_per_s) const {
    if (tokens_per_s <= 0) return kMostGrowth;
    return std::clamp(wanted_tokens_per_s() / tokens_per_s, 1 / kMostGrowth, kMostGrowth);
  }

  /// Whether the last filling brought next to nothing: the server gives what it can.
  [[nodiscard]] bool is_saturated(double tokens_per_s) const {
    if (watched_in_flight_ == 0 || num_live_ <= watched_in_flight_) return false;
    const double more =
        static_cast<double>(num_live_) / static_cast<double>(watched_in_flight_) - 1;
    return more > kCloseShare && tokens_per_s < watched_tokens_per_s_ * (1 + kUsefulShare * more);
  }

  /// False: that was the last.
  bool end_window(double now_s) {
    RateWindow window = window_figures(requests_, {phase_begin_s_, now_s, step_begin_s_},
                                       options_.profile.output_tokens);
    window.rate_per_s = rate_per_s_;
    window.in_flight_begin = in_flight_begin_;
    window.in_flight_end = num_live_;
    const std::optional<double> rate_per_s = next_(window);
    if (!rate_per_s) return false;
    const double target = static_cast<double>(num_live_) * *rate_per_s / rate_per_s_;
    begin_step(*rate_per_s, target, kLaterRounds);
    return true;
  }

  void fill_to(double target) {
    const int64_t count =
        std::min(std::llround(target), static_cast<long long>(options_.max_in_flight));
    const double now_s = loop_.now_s();
    while (num_live_ < count) {
      const auto num_ages = static_cast<double>(options_.profile.output_tokens - 1);
      age_share_ = std::fmod(age_share_ + kGoldenShare, 1);
      send(std::max<int64_t>(1, static_cast<int64_t>(std::ceil(age_share_ * num_ages))), now_s);
    }
    while (num_live_ > std::max<int64_t>(count, 1) && drop_one()) {}
    enter(Phase::kFilling);
  }

  /// Any of those in flight, so that their ages stay spread; it ends with its next token.
  bool drop_one() {
    std::vector<SteppedRequest*> live;
    for (const auto& request : requests_) {
      if (!request->ended && !request->dropped) live.push_back(request.get());
    }
    if (live.empty()) return false;
    live[drops_.next_below(live.size())]->dropped = true;
    --num_live_;
    return true;
  }

  /// A request of which `age` tokens are as if generated: they stand behind its prompt.
  Ask ask_of_age(int64_t age) {
    Ask ask;
    ask.input_tokens = options_.profile.input_tokens + age;
    ask.output_tokens = options_.profile.output_tokens - age;
    // Ids are drawn from the seed alone: no server is asked.
    const auto prompts = PromptSource::create(
        loop_, options_.target,
        {ask.input_tokens, options_.seed, false, options_.first_id, options_.end_id}, 0);
    ask.prompt = prompts->prompt(num_prompts_++);
    return ask;
  }

  void send(int64_t age, double scheduled_s) {
    requests_.push_back(std::make_unique<SteppedRequest>());
    SteppedRequest& request = *requests_.back();
    request.arrived = age == 0;
    request.record.scheduled_s = scheduled_s;
    request.record.sent_s = loop_.now_s();
    ++num_live_;
    if (!request.arrived) ++num_fills_waiting_;
    Ask ask = ask_of_age(age);
    ask.on_event = [this, &request, seen = size_t{0}]() mutable {
      const RequestRecord& record = request.record;
      const size_t now = record.ttft_s > 0 ? record.gaps_s.size() + 1 : 0;
      if (seen == 0 && now > 0 && !request.arrived) --num_fills_waiting_;
      num_tokens_ += static_cast<int64_t>(now - seen);
      seen = now;
      return !request.dropped;
    };
    ask.on_done = [this, &request] {
      request.ended = true;
      if (!request.dropped) --num_live_;
      if (request.record.ttft_s <= 0 && !request.arrived) --num_fills_waiting_;
    };
    sender_.send(request.record, ask);
  }

  EventLoop& loop_;
  Sender& sender_;
  const RateStepsOptions& options_;
  const std::function<std::optional<double>(const RateWindow&)>& next_;
  Rng drops_;
  double age_share_ = 0;
  std::optional<ArrivalTimes> arrivals_;
  std::vector<std::unique_ptr<SteppedRequest>> requests_;
  Phase phase_ = Phase::kFilling;
  double rate_per_s_ = 0;
  double step_begin_s_ = 0;
  double phase_begin_s_ = 0;
  int64_t phase_begin_tokens_ = 0;
  int64_t step_idx_ = 0;
  int rounds_left_ = 0;
  uint64_t num_prompts_ = 0;
  int64_t num_tokens_ = 0;
  int64_t num_live_ = 0;  // in flight, without those that are dropped
  int64_t num_fills_waiting_ = 0;
  int64_t in_flight_begin_ = 0;
  int64_t watched_in_flight_ = 0;  // when the last watching of this step ended; 0: none has
  double watched_tokens_per_s_ = 0;
};

}  // namespace

Status run_rate_steps(const RateStepsOptions& given, double first_rate_per_s,
                      const std::function<std::optional<double>(const RateWindow&)>& next) {
  RateStepsOptions options = given;
  EventLoop loop;
  if (const Status resolved = loop.resolve(options.target.url); !resolved) return resolved.error();
  auto served = list_models(loop, options.target);
  if (!served) return served.error();
  if (options.target.model.empty()) options.target.model = served->names.front();
  const Profile& profile = options.profile;
  const Status room =
      check_room(*served, profile.name, profile.input_tokens, profile.output_tokens);
  if (!room) return room.error();
  Sender sender(loop, options.target, served->names);
  Steps steps(loop, sender, options, next);
  const auto alone = steps.probe();
  if (!alone) return alone.error();
  steps.run(*alone, first_rate_per_s);
  return {};
}

}  // namespace comet::client
