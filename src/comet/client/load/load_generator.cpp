#include "comet/client/load/load_generator.h"

#include <algorithm>
#include <limits>

#include "comet/client/load/sender.h"

namespace comet::client {
namespace {

constexpr int64_t kMaxTexts = 64;  // text prompts cost two calls each, and are used in turn
constexpr uint64_t kWarmupIndex = 1 << 30;  // prompts of the warm-up are none of the measurement

/// Request `index` of a run.
Ask ask_of(const LoadOptions& options, const PromptSource& prompts, uint64_t index) {
  Ask ask;
  ask.prompt = prompts.prompt(index);
  ask.input_tokens = options.profile.input_tokens;
  ask.output_tokens = options.profile.output_tokens;
  ask.ignore_eos = options.ignore_eos;
  return ask;
}

/// A fixed number of requests in flight until time or number is used up.
class Run {
 public:
  Run(EventLoop& loop, Sender& sender, const LoadOptions& options, const PromptSource& prompts,
      const std::function<void()>& on_done)
      : loop_(loop),
        sender_(sender),
        options_(options),
        prompts_(prompts),
        on_done_(on_done),
        times_(options.arrivals, options.seed) {}

  void run() {
    begin_s_ = loop_.now_s();
    if (options_.arrivals.at_rate()) {
      schedule_next();
    } else {
      for (int64_t i = 0; i < options_.arrivals.concurrency; ++i) send_next();
    }
    loop_.run();
  }

  LoadResult result(std::string model) {
    LoadResult result;
    result.model = std::move(model);
    for (auto& record : records_) result.records.push_back(std::move(*record));
    result.duration_s = end_s_;
    result.max_concurrency = max_in_flight_;
    return result;
  }

 private:
  [[nodiscard]] bool used_up(double at_s) const {
    if (options_.num_requests > 0 && static_cast<int64_t>(records_.size()) >= options_.num_requests)
      return true;
    return options_.duration_s > 0 && at_s >= options_.duration_s;
  }

  /// At a rate: sends when due, however many are in flight.
  void schedule_next() {
    const double at_s = times_.next_s();
    if (used_up(at_s)) return;
    loop_.at(begin_s_ + at_s, [this, at_s] {
      if (in_flight_ < options_.max_in_flight) {
        send(at_s);
      } else {
        refuse(at_s);
      }
      schedule_next();
    });
  }

  void send_next() {
    const double now_s = loop_.now_s() - begin_s_;
    if (!used_up(now_s)) send(now_s);
  }

  RequestRecord& add_record(double scheduled_s) {
    records_.push_back(std::make_unique<RequestRecord>());
    records_.back()->scheduled_s = scheduled_s;
    records_.back()->sent_s = loop_.now_s() - begin_s_;
    return *records_.back();
  }

  void send(double scheduled_s) {
    const uint64_t index = records_.size();
    RequestRecord& record = add_record(scheduled_s);
    max_in_flight_ = std::max(max_in_flight_, ++in_flight_);
    Ask ask = ask_of(options_, prompts_, index);
    ask.on_done = [this, &record] {
      --in_flight_;
      end_s_ = std::max(end_s_, loop_.now_s() - begin_s_);
      on_done_();
      if (!options_.arrivals.at_rate()) next_after(record);
    };
    sender_.send(record, ask);
  }

  /// A server that refuses at once must not be asked a hundred thousand times a second.
  void next_after(const RequestRecord& record) {
    constexpr double kPauseS = 0.1;
    if (record.error_kind.empty()) return send_next();
    loop_.at(loop_.now_s() + kPauseS, [this] { send_next(); });
  }

  void refuse(double scheduled_s) {
    RequestRecord& record = add_record(scheduled_s);
    record.error_kind = "client_limit";
    record.error = fmt::format("{} requests were in flight already", options_.max_in_flight);
    on_done_();
  }

  EventLoop& loop_;
  Sender& sender_;
  const LoadOptions& options_;
  const PromptSource& prompts_;
  const std::function<void()>& on_done_;
  ArrivalTimes times_;
  std::vector<std::unique_ptr<RequestRecord>> records_;
  int64_t in_flight_ = 0;
  int64_t max_in_flight_ = 0;
  double begin_s_ = 0;
  double end_s_ = 0;
};

/// Requests whose figures are dropped: caches, pages and the CPU's clock settle. The first failure
/// ends the run: what fails now would fail then.
Status warm_up(EventLoop& loop, Sender& sender, const LoadOptions& options,
               const PromptSource& prompts, std::vector<RequestRecord>& records) {
  int64_t count = options.num_warmup;
  if (count < 0) count = std::min<int64_t>(options.arrivals.concurrency, 16);
  records.resize(static_cast<size_t>(count));
  for (size_t i = 0; i < records.size(); ++i) {
    Ask ask = ask_of(options, prompts, kWarmupIndex + i);
    if (options.warmup_tokens > 0) ask.output_tokens = options.warmup_tokens;
    ask.on_done = [] {};
    sender.send(records[i], ask);
  }
  loop.run();
  for (const RequestRecord& record : records) {
    if (record.error_kind.empty()) continue;
    const bool usage = record.error_kind == "http_401" || record.error_kind == "http_403" ||
                       record.error_kind == "http_404" || record.error_kind == "http_400";
    return Error{usage ? ErrorCode::kInvalidArgument : ErrorCode::kIo, record.error};
  }
  return {};
}

}  // namespace

Result<LoadResult> run_load(const LoadOptions& given, const std::function<void()>& on_done) {
  LoadOptions options = given;
  EventLoop loop;
  if (const Status resolved = loop.resolve(options.target.url); !resolved) return resolved.error();
  auto served = list_models(loop, options.target);
  if (!served) return served.error();
  if (options.target.model.empty()) options.target.model = served->names.front();
  COMET_CHECK(options.duration_s > 0 || options.num_requests > 0, "nothing ends the run");
  const Profile& profile = options.profile;
  const Status room =
      check_room(*served, profile.name, profile.input_tokens, profile.output_tokens);
  if (!room) return room.error();
  const bool as_text = options.text_prompts || options.target.chat;
  const int64_t num_texts =
      options.num_requests > 0 ? std::min(options.num_requests, kMaxTexts) : kMaxTexts;
  const auto prompts = PromptSource::create(
      loop, options.target,
      {options.profile.input_tokens, options.seed, as_text, options.first_id, options.end_id},
      num_texts);
  if (!prompts) return prompts.error();
  Sender sender(loop, options.target, served->names);
  std::vector<RequestRecord> warmup;
  if (const Status warmed = warm_up(loop, sender, options, *prompts, warmup); !warmed) {
    return warmed.error();
  }
  Run run(loop, sender, options, *prompts, on_done);
  run.run();
  LoadResult result = run.result(options.target.model);
  result.warmup = std::move(warmup);
  return result;
}

}  // namespace comet::client
