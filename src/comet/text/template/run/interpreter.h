// Runs a parsed template once. Everything it does is paid from the budget; errors are thrown as
// TemplateError. Filters, tests, methods and built-in functions get it as their first argument.
// Caller: ChatTemplate.
#pragma once

#include <ctime>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "comet/text/template/syntax/ast.h"
#include "comet/text/template/value/budget.h"
#include "comet/text/template/value/function.h"
#include "comet/text/template/value/objects.h"

namespace comet::text::jinja {

using LocalTime = std::function<std::tm()>;

class Interpreter {
 public:
  /// `program` and `budget` outlive it.
  Interpreter(const Program& program, Budget& budget, LocalTime local_time);

  /// The template's text with these variables. Once for an interpreter.
  std::string run(const DictData& variables);

  // For filters, tests, methods and functions:
  [[nodiscard]] Budget& budget() { return budget_; }
  [[nodiscard]] std::tm local_time() const { return local_time_(); }
  template <typename... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    budget_.fail(format, std::forward<Args>(args)...);
  }

  // Values whose bytes are charged and whose depth is bounded.
  Value text(std::string value);
  Value sequence(Kind kind, SequenceData data);
  Value list(std::vector<Value> items) {
    return sequence(Kind::kList, {.items = std::move(items)});
  }
  Value tuple(std::vector<Value> items) {
    return sequence(Kind::kTuple, {.items = std::move(items)});
  }
  Value iterator(std::vector<Value> items) {
    return sequence(Kind::kIterator, {.items = std::move(items)});
  }
  Value dict(DictData data);
  Value name_space(DictData attributes);

  /// What a loop over `value` sees; an error for what is not iterable. `what` is for the message.
  std::vector<Value> items_of(const Value& value);
  std::string text_of(const Value& value);
  Value call(const Value& callee, const CallArguments& arguments);
  Value apply_filter(std::string_view name, const Value& input, const CallArguments& arguments);
  bool apply_test(std::string_view name, const Value& input, const CallArguments& arguments);
  /// value.name and value[key], undefined where there is none.
  Value attribute(const Value& value, std::string_view name);
  Value item(const Value& value, const Value& key);
  /// An error for an undefined value, which says why it is so.
  void require_defined(const Value& value) const;

 private:
  enum class Flow { kNext, kBreak, kContinue };
  class BlockScope;  // the variables of a block while it runs

  Flow run_block(const Block& block);
  Flow run_statement(const Statement& statement);
  Flow run_if(const Statement& statement);
  Flow run_for(const ForStatement& loop);
  Flow run_for_items(const ForStatement& loop, std::vector<Value> items, int64_t depth0);
  std::vector<Value> filtered(const ForStatement& loop, std::vector<Value> items);
  bool passes(const ForStatement& loop, const Value& item);
  void run_set(const Statement& statement);
  Flow run_set_block(const Statement& statement);
  Flow run_filter_block(const Statement& statement);
  Flow run_with(const Statement& statement);
  void run_macro(const Statement& statement);
  void run_call_block(const Statement& statement);
  Flow capture(const Block& block, std::string& out);

  Value evaluate(const Expression& expression);
  Value evaluate_name(const Expression& expression);
  Value evaluate_dict(const Expression& expression);
  Value evaluate_slice(const Expression& expression);
  Value evaluate_conditional(const Expression& expression);
  Value evaluate_concat(const Expression& expression);
  Value evaluate_comparison(const Expression& expression);
  Value evaluate_filter(const Expression& expression, const Value* block_input);
  std::vector<Value> evaluate_parts(const Expression& expression);
  CallArguments evaluate_arguments(const Arguments& arguments);
  bool is_condition_true(const Expression& expression) { return is_true(evaluate(expression)); }

  Value call_macro(const Macro& macro, const CallArguments& arguments);
  void bind_parameters(const Macro& macro, const CallArguments& arguments);
  void bind_special(const Macro& macro, const CallArguments& arguments, std::vector<bool>& used);
  Value call_loop(const Loop& loop, const CallArguments& arguments);
  Value loop_attribute(Loop& loop, std::string_view name);

  void write(std::string_view text);
  void write_value(const Value& value);
  void assign(const Target& target, const Value& value);
  void require_namespaces(const Target& target);
  void set_variable(Scope& scope, int symbol, Value value);
  [[nodiscard]] const Value* find_variable(int symbol);
  void add_builtins();
  Macro* make_macro(const MacroStatement& definition);

  const Program& program_;
  Budget& budget_;
  LocalTime local_time_;
  std::string* out_ = nullptr;
  Scope* scope_ = nullptr;
  Scope globals_;
  std::vector<std::unique_ptr<Scope>> kept_scopes_;
  std::vector<std::unique_ptr<Namespace>> namespaces_;
  std::vector<std::unique_ptr<Macro>> macros_;
  std::vector<std::unique_ptr<Loop>> loops_;
};

}  // namespace comet::text::jinja
