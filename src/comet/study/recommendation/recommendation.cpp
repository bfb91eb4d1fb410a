#include "comet/study/recommendation/recommendation.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

namespace comet::study {
namespace {

std::string base_format(const StudySpec& spec) {
  for (const StudyFormat& format : spec.formats) {
    if (format.is_base()) return format.name;
  }
  return "";
}

std::string percent(double share) { return fmt::format("{:.1f} %", share * 100); }

std::string money(double dollars_per_query) {
  const double dollars = dollars_per_query * 1000;
  if (dollars >= 1) return fmt::format("${:.2f} per 1,000 queries", dollars);
  return fmt::format("${:.3g} per 1,000 queries", dollars);
}

/// A curve's value at a rate, by a straight line; nullopt outside.
std::optional<double> value_at(const std::vector<const ResultRow*>& curve, double rate) {
  for (size_t i = 1; i < curve.size(); ++i) {
    const double low = *curve[i - 1]->rate_per_s;
    const double high = *curve[i]->rate_per_s;
    if (rate < low || rate > high || high <= low) continue;
    const double t = (rate - low) / (high - low);
    return curve[i - 1]->value + t * (curve[i]->value - curve[i - 1]->value);
  }
  return std::nullopt;
}

/// Whether there is a rate at which both are known.
bool overlap(const std::vector<const ResultRow*>& a, const std::vector<const ResultRow*>& b) {
  if (a.size() < 2 || b.size() < 2) return false;
  return *a.front()->rate_per_s <= *b.back()->rate_per_s &&
         *b.front()->rate_per_s <= *a.back()->rate_per_s;
}

/// Whether `a` is lower at the lowest rate at which both are known.
bool wins_at_first(const std::vector<const ResultRow*>& a, const std::vector<const ResultRow*>& b) {
  const double rate = std::max(*a.front()->rate_per_s, *b.front()->rate_per_s);
  return value_at(a, rate).value_or(0) <= value_at(b, rate).value_or(0);
}

std::string objective_title(const std::string& metric) {
  return metric.ends_with("ttft_p99") ? "time to first token (99 %)" : "time between tokens (99 %)";
}

/// A format's cost a query, the mean over profiles.
struct Cost {
  std::string format;
  double dollars = 0;
  std::vector<const ResultRow*> rows;
};

class Recommender {
 public:
  Recommender(const StudySpec& spec, const RowIndex& index, const std::string& model)
      : spec_(spec), index_(index), base_(base_format(spec)) {
    result_.model = model;
  }

  ModelRecommendation run() && {
    if (base_.empty()) {
      result_.missing =
          "The spec has no plain bf16 format, so quality has nothing to be compared with.";
      return std::move(result_);
    }
    if (!spec_.measures_quality()) {
      result_.missing =
          "Quality is no part of this study: formats are ranked by cost alone, as if all were good "
          "enough.";
      for (const StudyFormat& format : spec_.formats) kept_.push_back(format.name);
    } else if (quality_figures(spec_, index_, result_.model).empty()) {
      result_.missing =
          "No accuracy or perplexity has been measured, so no format can be recommended.";
      return std::move(result_);
    }
    judge_quality();
    result_.sync_choice = choose("sync", "One query at a time");
    result_.async_choice = choose("async", "Many queries at once");
    say_where_rates_flip();
    say_use_cases();
    say_where_floors_flip("sync", result_.sync_choice, "one query at a time");
    if (result_.async_choice != result_.sync_choice) {
      say_where_floors_flip("async", result_.async_choice, "many queries at once");
    }
    if (result_.sync_choice.empty() && result_.async_choice.empty() && result_.missing.empty()) {
      result_.missing =
          "There are no costs (metrics sync or async, machine.price_per_hour), so only quality is "
          "judged.";
    }
    return std::move(result_);
  }

 private:
  using Kind = Statement::Kind;

  void say(Kind kind, std::string text, std::vector<const ResultRow*> rows) {
    if (!rows.empty()) result_.statements.push_back({kind, std::move(text), std::move(rows)});
  }

  /// The metric that drops a format first as the floor rises; nullptr where nothing is known.
  const Recovery* limiting(const std::string& format) {
    const auto& list = recoveries_[format];
    const auto it = std::ranges::min_element(list, {}, &Recovery::highest_floor);
    return it == list.end() ? nullptr : &*it;
  }

  /// The worst metric of a format; nullptr where it lacks one that BF16 has.
  const Recovery* worst(const std::string& format) {
    const auto& list = recoveries_[format];
    const auto it = std::ranges::min_element(list, {}, &Recovery::share);
    return it == list.end() ? nullptr : &*it;
  }

  void judge_quality() {
    if (!spec_.measures_quality()) return;
    const size_t num_wanted = quality_figures(spec_, index_, result_.model).size();
    for (const StudyFormat& format : spec_.formats) {
      auto& list = recoveries_[format.name];
      list = recoveries(spec_, index_, result_.model, format.name);
      if (list.size() < num_wanted) continue;  // a failed cell: nothing is known of it
      const bool keeps = std::ranges::all_of(
          list, [&](const Recovery& r) { return r.keeps(spec_.accuracy_floor); });
      if (keeps) kept_.push_back(format.name);
    }
    for (const StudyFormat& format : spec_.formats) {
      if (format.is_base() || recoveries_[format.name].empty()) continue;
      const bool keeps = std::ranges::find(kept_, format.name) != kept_.end();
      say_quality(format.name, keeps);
    }
  }

  void say_quality(const std::string& format, bool keeps) {
    const Recovery* low = worst(format);
    if (low == nullptr) return;
    const std::string figure = short_metric(low->figure.metric);
    if (keeps) {
      const bool noisy = low->share < spec_.accuracy_floor;
      say(Kind::kQuality,
          fmt::format("{} keeps {} of {}'s quality where it keeps least ({}){}", format,
                      percent(low->share), base_, figure,
                      noisy ? fmt::format(", which the sample cannot tell from the floor of {}.",
                                          percent(spec_.accuracy_floor))
                            : "."),
          {low->row, low->base});
      return;
    }
    const auto& list = recoveries_[format];
    const auto below = std::ranges::find_if(
        list, [&](const Recovery& r) { return !r.keeps(spec_.accuracy_floor); });
    if (below == list.end()) {
      say(Kind::kQuality,
          fmt::format("{} is left out, because some of its quality is not measured; it keeps {} in "
                      "{}.",
                      format, percent(low->share), figure),
          {low->row, low->base});
      return;
    }
    say(Kind::kQuality,
        fmt::format("{} is left out: it keeps {} of {}'s quality in {}, below the floor of {}.",
                    format, percent(below->share), base_, short_metric(below->figure.metric),
                    percent(spec_.accuracy_floor)),
        {below->row, below->base});
  }

  /// Synchronous: the objectives hold one request at a time. A sweep's costs hold them by its rule.
  const ResultRow* broken_objective(const std::string& format, const std::string& profile) const {
    for (const auto& [metric, limit] : {std::pair{"sync/ttft_p99", spec_.slo.ttft_p99_ms},
                                        {"sync/itl_p99", spec_.slo.itl_p99_ms}}) {
      const ResultRow* row = index_.find(result_.model, format, metric, profile);
      if (limit > 0 && row != nullptr && row->value > limit) return row;
    }
    return nullptr;
  }

  /// Costs of formats, lowest first, over the profiles that all of them have.
  std::vector<Cost> costs(const std::string& metric, const std::vector<std::string>& formats) {
    std::vector<Cost> list;
    for (const std::string& format : formats) {
      Cost cost{format, 0, {}};
      for (const client::Profile& profile : spec_.profiles) {
        const ResultRow* row =
            index_.find(result_.model, format, metric + "/cost_per_query", profile.name);
        if (row == nullptr) continue;
        if (metric == "sync" && broken_objective(format, profile.name) != nullptr) continue;
        cost.dollars += row->value;
        cost.rows.push_back(row);
      }
      // A format that fails a profile cannot serve the mix, and its mean is of other queries.
      if (cost.rows.size() != spec_.profiles.size() || cost.rows.empty()) continue;
      cost.dollars /= static_cast<double>(cost.rows.size());
      list.push_back(std::move(cost));
    }
    std::ranges::stable_sort(list, {}, &Cost::dollars);
    return list;
  }

  void say_objectives(const std::string& metric) {
    for (const std::string& format : kept_) {
      for (const client::Profile& profile : spec_.profiles) {
        if (metric == "sync") {
          const ResultRow* row = broken_objective(format, profile.name);
          if (row == nullptr) continue;
          say(Kind::kChoice,
              fmt::format(
                  "{} breaks the objectives even one query at a time: its {} is {:.0f} ms for {}.",
                  format, objective_title(row->metric), row->value, profile.title),
              {row});
          break;
        }
        const ResultRow* most =
            index_.find(result_.model, format, "async/max_queries_per_s", profile.name);
        if (most == nullptr || most->value > 0) continue;
        say(Kind::kChoice,
            fmt::format("{} keeps the objectives at no measured rate for {}.", format,
                        profile.title),
            {most});
        break;
      }
    }
  }

  std::string choose(const std::string& metric, const std::string& situation) {
    say_objectives(metric);
    const std::vector<Cost> list = costs(metric, kept_);
    if (list.empty()) return "";
    const Cost& best = list.front();
    std::string text =
        fmt::format("{}: choose {}, {} on average over {} use case{}", situation, best.format,
                    money(best.dollars), best.rows.size(), best.rows.size() == 1 ? "" : "s");
    std::vector<const ResultRow*> rows = best.rows;
    const auto base = costs(metric, {base_});
    if (!base.empty() && best.format != base_) {
      text +=
          fmt::format(", {:.2f} times cheaper than {}", base.front().dollars / best.dollars, base_);
      rows.insert(rows.end(), base.front().rows.begin(), base.front().rows.end());
    }
    say(Kind::kChoice, text + ".", std::move(rows));
    if (list.size() > 1) {
      const Cost& second = list[1];
      say(Kind::kChoice,
          fmt::format("The runner-up is {} at {}, {} more.", second.format, money(second.dollars),
                      percent(second.dollars / best.dollars - 1)),
          second.rows);
    }
    return best.format;
  }

  /// Rates at which the times between tokens of the two choices (or of choice and runner-up) cross.
  void say_where_rates_flip() {
    const std::vector<Cost> list = costs("async", kept_);
    if (list.size() < 2) return;
    const std::string& first = list[0].format;
    const bool same = result_.sync_choice.empty() || result_.sync_choice == first;
    const std::string other = same ? list[1].format : result_.sync_choice;
    std::map<std::string, std::vector<const ResultRow*>> steady_rows;  // by who wins throughout
    std::map<std::string, std::string> steady_profiles;
    for (const client::Profile& profile : spec_.profiles) {
      const auto a = index_.curve(result_.model, first, "async/itl_mean", profile.name);
      const auto b = index_.curve(result_.model, other, "async/itl_mean", profile.name);
      if (!overlap(a, b)) continue;
      const std::vector<const ResultRow*> rows{a.front(), a.back(), b.front(), b.back()};
      const bool first_wins = wins_at_first(a, b);
      const std::string& winner = first_wins ? first : other;
      const double rate = crossing_rate(a, b);
      if (rate > 0) {
        say(Kind::kFlip,
            fmt::format("{}: the choice flips at {:.3g} queries a second; below it {} has the "
                        "shorter time between tokens, above it {}.",
                        profile.title, rate, winner, first_wins ? other : first),
            rows);
        continue;
      }
      auto& all = steady_rows[winner];
      all.insert(all.end(), rows.begin(), rows.end());
      std::string& profiles = steady_profiles[winner];
      profiles += (profiles.empty() ? "" : ", ") + profile.title;
    }
    for (const auto& [winner, rows] : steady_rows) {
      say(Kind::kFlip,
          fmt::format("{}: the rate does not flip the choice where both were measured; {} has the "
                      "shorter time between tokens than {} at all rates.",
                      steady_profiles[winner], winner, winner == first ? other : first),
          rows);
    }
  }

  /// Use cases whose cheapest format is not the choice over all.
  void say_use_cases() {
    for (const auto& [metric, situation, choice] :
         {std::tuple{"sync", "one query at a time", &result_.sync_choice},
          {"async", "many queries at once", &result_.async_choice}}) {
      for (const client::Profile& profile : spec_.profiles) {
        const ResultRow* own = cost_row(metric, *choice, profile.name);
        const ResultRow* best = own;
        for (const std::string& format : kept_) {
          const ResultRow* row = cost_row(metric, format, profile.name);
          if (own != nullptr && row != nullptr && row->value < best->value) best = row;
        }
        if (best == own) continue;
        say(Kind::kFlip,
            fmt::format("{}, {}: {} is cheapest, at {}; {} costs {} more.", profile.title,
                        situation, best->format, money(best->value), *choice,
                        percent(own->value / best->value - 1)),
            {best, own});
      }
    }
  }

  [[nodiscard]] const ResultRow* cost_row(const std::string& metric, const std::string& format,
                                          const std::string& profile) const {
    if (metric == "sync" && broken_objective(format, profile) != nullptr) return nullptr;
    return index_.find(result_.model, format, metric + "/cost_per_query", profile);
  }

  /// The floors at which another format becomes the cheapest.
  void say_where_floors_flip(const std::string& metric, const std::string& choice,
                             const std::string& situation) {
    if (choice.empty()) return;
    const std::vector<Cost> kept = costs(metric, kept_);
    const Recovery* own = limiting(choice);
    if (choice != base_ && own != nullptr && own->highest_floor() < 1) {
      const auto next = std::ranges::find_if(kept, [&](const Cost& cost) {
        const Recovery* low = limiting(cost.format);
        return low != nullptr && low->highest_floor() > own->highest_floor();
      });
      if (next != kept.end()) {
        std::vector<const ResultRow*> rows{own->row, own->base};
        rows.insert(rows.end(), next->rows.begin(), next->rows.end());
        say(Kind::kFlip,
            fmt::format("With a floor above {} the choice for {} flips to {}, at {}.",
                        percent(own->highest_floor()), situation, next->format,
                        money(next->dollars)),
            std::move(rows));
      }
    }
    std::vector<std::string> all;
    for (const StudyFormat& format : spec_.formats) all.push_back(format.name);
    for (const Cost& cost : costs(metric, all)) {
      if (!kept.empty() && cost.dollars >= kept.front().dollars) break;
      const Recovery* low = limiting(cost.format);
      if (low == nullptr || low->keeps(spec_.accuracy_floor)) continue;
      std::vector<const ResultRow*> rows{low->row, low->base};
      rows.insert(rows.end(), cost.rows.begin(), cost.rows.end());
      say(Kind::kFlip,
          fmt::format("With a floor of {} or less the choice for {} flips to {}, at {}.",
                      percent(low->highest_floor()), situation, cost.format, money(cost.dollars)),
          std::move(rows));
      break;
    }
  }

  const StudySpec& spec_;
  const RowIndex& index_;
  std::string base_;
  std::map<std::string, std::vector<Recovery>> recoveries_;
  std::vector<std::string> kept_;  // formats that keep the floor
  ModelRecommendation result_;
};

}  // namespace

std::string short_metric(const std::string& metric) {
  if (!metric.starts_with("text:")) return metric;
  return metric.substr(metric.find_last_of("/:") + 1);
}

double crossing_rate(const std::vector<const ResultRow*>& a,
                     const std::vector<const ResultRow*>& b) {
  std::vector<double> rates;
  for (const auto* curve : {&a, &b}) {
    for (const ResultRow* row : *curve) rates.push_back(*row->rate_per_s);
  }
  std::ranges::sort(rates);
  std::optional<double> last;
  double last_rate = 0;
  for (const double rate : rates) {
    const auto x = value_at(a, rate);
    const auto y = value_at(b, rate);
    if (!x || !y) continue;
    const double difference = *x - *y;
    if (last && difference != 0 && *last * difference < 0) {
      return last_rate + (rate - last_rate) * *last / (*last - difference);
    }
    if (difference != 0) {
      last = difference;
      last_rate = rate;
    }
  }
  return 0;
}

std::vector<Recovery> recoveries(const StudySpec& spec, const RowIndex& index,
                                 const std::string& model, const std::string& format) {
  std::vector<Recovery> list;
  const std::string base = base_format(spec);
  for (const QualityFigure& figure : quality_figures(spec, index, model)) {
    Recovery r;
    r.figure = figure;
    r.row = index.find(model, format, figure.row_metric);
    r.base = index.find(model, base, figure.row_metric);
    if (r.row == nullptr || r.base == nullptr || r.base->value <= 0 || r.row->value <= 0) continue;
    if (figure.lower_is_better) {
      r.share = r.base->value / r.row->value;
    } else {
      r.share = r.row->value / r.base->value;
      if (format != base) {
        r.std_error =
            std::hypot(r.row->std_error.value_or(0), r.share * r.base->std_error.value_or(0)) /
            r.base->value;
      }
    }
    list.push_back(r);
  }
  return list;
}

ModelRecommendation recommend(const StudySpec& spec, const RowIndex& index,
                              const std::string& model) {
  return Recommender(spec, index, model).run();
}

}  // namespace comet::study
