#include "comet/study/tasks/figures.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "comet/study/tasks/data/python_text.h"
#include "comet/study/tasks/score/number_answer.h"
#include "comet/study/tasks/score/statistics.h"

namespace comet::study {
namespace {

constexpr int64_t kResamples = 100000;  // lm-eval's bootstrap_iters

/// The first choice with the largest log-probability over `length`.
template <typename Length>
bool is_gold_likeliest(const TaskDocument& document, const Answer& answer, const Length& length) {
  int64_t best = 0;
  double best_value = -INFINITY;
  for (size_t i = 0; i < answer.likelihoods.size(); ++i) {
    const double value = answer.likelihoods[i].log_prob / length(i);
    if (value > best_value) {
      best = static_cast<int64_t>(i);
      best_value = value;
    }
  }
  return best == document.gold;
}

double true_mass(const TaskDocument& document, const Answer& answer) {
  double all = 0;
  double mass = 0;
  for (size_t i = 0; i < answer.likelihoods.size(); ++i) {
    const double p = std::exp(answer.likelihoods[i].log_prob);
    all += p;
    if (document.is_true[i] != 0) mass += p;
  }
  return mass / all;
}

/// A metric that is the mean of score(document, answer).
template <typename Score>
void add_mean(TaskResult& result, std::string name, const TaskPart& part,
              std::span<const Answer> answers, const Score& score) {
  TaskMetric metric;
  metric.name = std::move(name);
  for (size_t i = 0; i < answers.size(); ++i) {
    metric.values.push_back(static_cast<double>(score(part.documents[i], answers[i])));
  }
  metric.value = mean_of(metric.values);
  metric.std_error = stderr_of_mean(metric.values);
  result.metrics.push_back(std::move(metric));
}

void add_choice_metrics(TaskResult& result, const Task& task, const TaskPart& part,
                        std::span<const Answer> answers) {
  add_mean(result, "acc", part, answers, [](const TaskDocument& document, const Answer& answer) {
    return is_gold_likeliest(document, answer, [](size_t) { return 1.0; });
  });
  if (!task.has_acc_norm) return;
  add_mean(result, "acc_norm", part, answers,
           [](const TaskDocument& document, const Answer& answer) {
             return is_gold_likeliest(document, answer, [&](size_t i) {
               return static_cast<double>(python_length(document.choices[i]));
             });
           });
  add_mean(result, "acc_bytes", part, answers,
           [](const TaskDocument& document, const Answer& answer) {
             return is_gold_likeliest(document, answer, [&](size_t i) {
               return static_cast<double>(document.choices[i].size());
             });
           });
}

void add_word_metrics(TaskResult& result, ThreadPool& pool, const TaskPart& part,
                      std::span<const Answer> answers) {
  TaskMetric perplexity;
  perplexity.name = "perplexity";
  for (const Answer& answer : answers) perplexity.values.push_back(answer.likelihoods[0].log_prob);
  perplexity.value = perplexity_of(perplexity.values);
  perplexity.std_error = bootstrap_perplexity_stderr(pool, perplexity.values, kResamples);
  result.metrics.push_back(std::move(perplexity));
  add_mean(result, "acc", part, answers, [](const TaskDocument&, const Answer& answer) {
    return answer.likelihoods[0].is_greedy;
  });
}

}  // namespace

TaskResult part_figures(ThreadPool& pool, const Task& task, const TaskPart& part,
                        std::span<const Answer> answers, std::span<const uint8_t> passed) {
  TaskResult result;
  result.name = part.name;
  result.num_samples = static_cast<int64_t>(answers.size());
  result.answers.assign(answers.begin(), answers.end());
  switch (task.kind) {
    case TaskKind::kMultipleChoice:
      add_choice_metrics(result, task, part, answers);
      break;
    case TaskKind::kTrueMass:
      add_mean(result, "acc", part, answers, true_mass);
      break;
    case TaskKind::kLastWord:
      add_word_metrics(result, pool, part, answers);
      break;
    case TaskKind::kExactMatch:
      add_mean(result, "exact_match", part, answers,
               [](const TaskDocument& document, const Answer& answer) {
                 return equal_numbers(strict_number(answer.text), document.target);
               });
      add_mean(result, "exact_match_flexible", part, answers,
               [](const TaskDocument& document, const Answer& answer) {
                 return equal_numbers(flexible_number(answer.text), document.target);
               });
      break;
    case TaskKind::kProgram: {
      size_t i = 0;
      add_mean(result, "pass@1", part, answers,
               [&](const TaskDocument&, const Answer&) { return passed[i++] != 0; });
      break;
    }
  }
  return result;
}

TaskResult group_figures(const Task& task, std::vector<TaskResult> parts) {
  TaskResult result;
  result.name = task.name;
  std::vector<int64_t> sizes;
  for (const TaskResult& part : parts) {
    sizes.push_back(part.num_samples);
    result.num_samples += part.num_samples;
  }
  for (size_t m = 0; m < parts.front().metrics.size(); ++m) {
    TaskMetric metric;
    metric.name = parts.front().metrics[m].name;
    std::vector<double> stderrs;
    for (const TaskResult& part : parts) {
      metric.value += part.metrics[m].value * static_cast<double>(part.num_samples);
      stderrs.push_back(part.metrics[m].std_error);
    }
    metric.value /= static_cast<double>(result.num_samples);
    metric.std_error = pooled_stderr(stderrs, sizes);
    result.metrics.push_back(std::move(metric));
  }
  result.parts = std::move(parts);
  return result;
}

}  // namespace comet::study
