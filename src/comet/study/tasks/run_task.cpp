#include "comet/study/tasks/run_task.h"

#include <algorithm>
#include <numeric>

#include "comet/study/tasks/code/sandbox.h"
#include "comet/study/tasks/figures.h"
#include "comet/study/tasks/score/generator.h"

namespace comet::study {
namespace {

constexpr int64_t kDefaultMaxLength = 2048;
constexpr size_t kBlockTexts = 32;

/// The requests of one document.
struct Question {
  LikelihoodScorer::Group likelihoods;  // of its choices, or of its target
  GenerationRequest generation;
  int64_t num_tokens = 0;
};

/// What answers the questions of one task.
struct Answerer {
  const Task& task;
  std::unique_ptr<LikelihoodScorer> scorer;
  std::unique_ptr<Generator> generator;
};

bool is_generation(const Task& task) {
  return task.kind == TaskKind::kExactMatch || task.kind == TaskKind::kProgram;
}

Question ask(const text::Tokenizer& tokenizer, const Task& task, const TaskDocument& document,
             const EncodeRules& rules) {
  Question question;
  const std::string prompt = document.prefix + document.text;
  const auto add = [&](const std::string& before, const std::string& after) {
    question.likelihoods.push_back(encode_pair(tokenizer, before, after, rules));
    question.num_tokens += static_cast<int64_t>(question.likelihoods.back().tokens.size());
  };
  if (is_generation(task)) {
    question.generation =
        encode_prompt(tokenizer, prompt, task.max_tokens, rules.max_length, rules.add_bos);
    question.num_tokens =
        static_cast<int64_t>(question.generation.prompt.size()) + question.generation.max_tokens;
  } else if (task.kind == TaskKind::kLastWord) {
    add(prompt, document.target);
  } else if (task.choices_are_contexts) {
    for (const std::string& choice : document.choices) {
      add(document.prefix + choice, fmt::format(" {}", document.target));
    }
  } else {
    for (const std::string& choice : document.choices) add(prompt, fmt::format(" {}", choice));
  }
  return question;
}

/// Indices of the questions, the longest first: batches of like lengths, and a time left that is
/// rather too long.
std::vector<size_t> by_length(const std::vector<Question>& questions) {
  std::vector<size_t> order(questions.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(
      order, [&](size_t a, size_t b) { return questions[a].num_tokens > questions[b].num_tokens; });
  return order;
}

std::string block_key(const RunOptions& options, const Task& task,
                      const std::vector<Question>& questions, std::span<const size_t> block) {
  KeyHash key;
  key.add(options.model_key);
  key.add(task.name);
  const auto add_tokens = [&](const std::vector<int32_t>& tokens, int64_t number) {
    key.add(number);
    key.add(std::string_view(reinterpret_cast<const char*>(tokens.data()),
                             tokens.size() * sizeof(int32_t)));
  };
  for (const size_t i : block) {
    for (const LikelihoodRequest& request : questions[i].likelihoods) {
      add_tokens(request.tokens, request.num_prompt);
    }
    add_tokens(questions[i].generation.prompt, questions[i].generation.max_tokens);
  }
  return key.text();
}

Json answer_json(const Answer& answer) {
  if (answer.likelihoods.empty()) return answer.text;
  Json list = Json::array();
  for (const Likelihood& one : answer.likelihoods) {
    list.push_back({one.log_prob, one.is_greedy});
  }
  return list;
}

/// false when `json` is not what answer_json makes of an answer to the question.
bool parse_answer(const Json& json, const Question& question, Answer& answer) {
  if (question.likelihoods.empty()) {
    if (!json.is_string()) return false;
    answer.text = json.get<std::string>();
    return true;
  }
  if (!json.is_array() || json.size() != question.likelihoods.size()) return false;
  for (const Json& one : json) {
    if (!one.is_array() || one.size() != 2 || !one[0].is_number() || !one[1].is_boolean()) {
      return false;
    }
    answer.likelihoods.push_back({one[0].get<double>(), one[1].get<bool>()});
  }
  return true;
}

bool find_answers(const RunOptions& options, const std::string& key,
                  const std::vector<Question>& questions, std::span<const size_t> block,
                  std::vector<Answer>& answers) {
  const Json* kept = options.journal == nullptr ? nullptr : options.journal->find(key);
  if (kept == nullptr || !kept->is_array() || kept->size() != block.size()) return false;
  for (size_t k = 0; k < block.size(); ++k) {
    Answer answer;
    if (!parse_answer((*kept)[k], questions[block[k]], answer)) return false;
    answers[block[k]] = std::move(answer);
  }
  return true;
}

Status answer_block(Answerer& answerer, const std::vector<Question>& questions,
                    std::span<const size_t> block, std::vector<Answer>& answers) {
  if (answerer.generator != nullptr) {
    std::vector<GenerationRequest> requests;
    for (const size_t i : block) requests.push_back(questions[i].generation);
    auto texts = answerer.generator->generate(requests, answerer.task.stops);
    if (!texts) return texts.error();
    for (size_t k = 0; k < block.size(); ++k) answers[block[k]].text = std::move((*texts)[k]);
    return {};
  }
  std::vector<LikelihoodScorer::Group> groups;
  for (const size_t i : block) groups.push_back(questions[i].likelihoods);
  auto likelihoods = answerer.scorer->score(groups);
  if (!likelihoods) return likelihoods.error();
  for (size_t k = 0; k < block.size(); ++k) {
    answers[block[k]].likelihoods = std::move((*likelihoods)[k]);
  }
  return {};
}

Result<std::vector<Answer>> answer_all(Answerer& answerer, const std::vector<Question>& questions,
                                       const RunOptions& options) {
  const std::vector<size_t> order = by_length(questions);
  int64_t num_all = 0;
  for (const Question& question : questions) num_all += question.num_tokens;
  std::vector<Answer> answers(questions.size());
  int64_t num_done = 0;
  for (size_t begin = 0; begin < order.size();) {
    size_t end = begin;
    int64_t num_tokens = 0;
    while (end < order.size() && num_tokens < options.block_tokens &&
           (answerer.generator == nullptr || end - begin < kBlockTexts)) {
      num_tokens += questions[order[end++]].num_tokens;
    }
    const std::span<const size_t> block(order.data() + begin, end - begin);
    const std::string key = block_key(options, answerer.task, questions, block);
    if (!find_answers(options, key, questions, block, answers)) {
      const Status answered = answer_block(answerer, questions, block, answers);
      if (!answered) return answered.error();
      if (options.journal != nullptr) {
        Json list = Json::array();
        for (const size_t i : block) list.push_back(answer_json(answers[i]));
        const Status kept = options.journal->add(key, std::move(list));
        if (!kept) return kept.error();
      }
    }
    num_done += num_tokens;
    if (options.on_tokens) options.on_tokens(num_done, num_all);
    begin = end;
  }
  return answers;
}

Result<std::vector<uint8_t>> run_programs(const LoadedTask& loaded,
                                          const std::vector<Answer>& answers,
                                          const RunOptions& options) {
  std::vector<uint8_t> passed;
  auto sandbox = Sandbox::create(options.without_namespaces);
  if (!sandbox) return sandbox.error();
  for (const TaskPart& part : loaded.parts) {
    for (const TaskDocument& document : part.documents) {
      // As lm-eval's build_predictions and code_eval put the pieces together.
      const std::string program =
          fmt::format("{}{}\n{}", document.text, answers[passed.size()].text, document.target);
      auto outcome = sandbox->run(program);
      if (!outcome) return outcome.error();
      passed.push_back(*outcome == ProgramOutcome::kPassed ? 1 : 0);
    }
  }
  return passed;
}

Result<EncodeRules> encode_rules(const models::LlamaModel& model, const RunOptions& options) {
  const io::ModelConfig& config = model.config();
  if (options.max_length > config.max_position_embeddings || options.max_length == 1) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--max-length {}: expected 2 to {}, the model's context", options.max_length,
                      config.max_position_embeddings);
  }
  EncodeRules rules;
  rules.max_length = options.max_length > 0
                         ? options.max_length
                         : std::min(kDefaultMaxLength, config.max_position_embeddings);
  rules.add_bos = options.add_bos;
  if (config.bos_token_id) {
    rules.prefix_token = static_cast<int32_t>(*config.bos_token_id);
  } else if (!config.eos_token_ids.empty()) {
    rules.prefix_token = static_cast<int32_t>(config.eos_token_ids.front());
  }
  return rules;
}

Result<Answerer> make_answerer(Context& ctx, const models::LlamaModel& model,
                               const text::Tokenizer& tokenizer, const Task& task,
                               const RunOptions& options, int64_t max_length) {
  Answerer answerer{task, nullptr, nullptr};
  if (!is_generation(task)) {
    auto scorer = LikelihoodScorer::create(ctx, model, max_length);
    if (!scorer) return scorer.error();
    answerer.scorer = *std::move(scorer);
    return answerer;
  }
  std::vector<int32_t> eos = options.eos_tokens;
  if (eos.empty())
    eos.assign(model.config().eos_token_ids.begin(), model.config().eos_token_ids.end());
  auto generator = Generator::create(ctx, model, tokenizer, max_length, std::move(eos));
  if (!generator) return generator.error();
  answerer.generator = *std::move(generator);
  return answerer;
}

}  // namespace

Result<TaskResult> run_task(Context& ctx, const models::LlamaModel& model,
                            const text::Tokenizer& tokenizer, const LoadedTask& loaded,
                            const RunOptions& options) {
  const Task& task = *loaded.task;
  const auto rules = encode_rules(model, options);
  if (!rules) return rules.error();
  if (task.kind == TaskKind::kProgram) {
    // Before the long part: what cannot be run need not be generated.
    if (!options.run_programs) return programs_not_allowed(task.name);
    const auto sandbox = Sandbox::create(options.without_namespaces);
    if (!sandbox) return sandbox.error();
  }
  std::vector<const TaskDocument*> documents;
  for (const TaskPart& part : loaded.parts) {
    for (const TaskDocument& document : part.documents) documents.push_back(&document);
  }
  std::vector<Question> questions(documents.size());
  ctx.pool.parallel_for(static_cast<int64_t>(documents.size()), [&](int64_t i, int) {
    questions[i] = ask(tokenizer, task, *documents[i], *rules);
  });
  auto answerer = make_answerer(ctx, model, tokenizer, task, options, rules->max_length);
  if (!answerer) return answerer.error();
  const auto answers = answer_all(*answerer, questions, options);
  if (!answers)
    return Error{answers.error().code, fmt::format("{}: {}", task.name, answers.error().message)};
  std::vector<uint8_t> passed;
  if (task.kind == TaskKind::kProgram) {
    auto outcomes = run_programs(loaded, *answers, options);
    if (!outcomes) return outcomes.error();
    passed = *std::move(outcomes);
  }
  std::vector<TaskResult> parts;
  std::span<const Answer> rest(*answers);
  for (const TaskPart& part : loaded.parts) {
    parts.push_back(part_figures(ctx.pool, task, part, rest.first(part.documents.size()), passed));
    rest = rest.subspan(part.documents.size());
  }
  if (parts.size() > 1) return group_figures(task, std::move(parts));
  TaskResult result = std::move(parts.front());
  result.name = task.name;
  return result;
}

}  // namespace comet::study
