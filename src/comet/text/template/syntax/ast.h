// What the parser makes of a template: statements and expressions as trees, names as numbers. No
// deeper than TemplateLimits::max_nesting. Callers: the parser writes it, the interpreter runs it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "comet/text/template/value/value.h"

namespace comet::text::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

enum class ExpressionKind : uint8_t {
  kConstant,
  kName,
  kList,
  kTuple,
  kDict,       // parts: key, value, key, value, …
  kAttribute,  // parts[0].name
  kSubscript,  // parts[0][parts[1]]
  kSlice,      // parts[0][parts[1]:parts[2]:parts[3]], each of the three may be null
  kCall,       // parts[0](arguments)
  kFilter,     // parts[0] | name(arguments); null in a filter block
  kTest,       // parts[0] is name(arguments)
  kNot,
  kNegative,
  kPositive,
  kAnd,
  kOr,
  kConditional,  // parts[0] if parts[1] else parts[2], which may be null
  kConcat,       // parts joined by ~
  kArithmetic,   // parts[0] op parts[1]
  kComparison,   // parts[0] ops[0] parts[1] ops[1] parts[2] …
};

enum class Operator : uint8_t {
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kModulo,
  kPower,
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn,
};

struct Arguments {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  ExpressionPtr star;         // *sequence
  ExpressionPtr double_star;  // **dict
};

struct Expression {
  ExpressionKind kind = ExpressionKind::kConstant;
  Operator op = Operator::kAdd;
  int line = 1;
  int depth = 1;
  int symbol = -1;  // of a name
  Value value;      // of a constant
  std::string name;
  std::vector<ExpressionPtr> parts;
  std::vector<Operator> ops;
  std::unique_ptr<Arguments> arguments;
};

/// What an assignment writes to: a variable, an attribute of a namespace, or several of these.
struct Target {
  int symbol = -1;
  std::string name;       // the variable's
  std::string attribute;  // empty: the variable itself
  std::vector<Target> parts;
  bool is_tuple = false;
};

struct Statement;
using StatementPtr = std::unique_ptr<Statement>;
using Block = std::vector<StatementPtr>;

enum class StatementKind : uint8_t {
  kText,
  kOutput,
  kIf,
  kFor,
  kSet,
  kSetBlock,
  kMacro,
  kCallBlock,
  kFilterBlock,
  kWith,
  kScope,  // a block of its own variables: generation, block
  kBreak,
  kContinue,
};

struct Branch {
  ExpressionPtr condition;  // null: else
  Block body;
};

struct MacroStatement {
  std::string name;
  int symbol = -1;
  std::vector<std::pair<int, std::string>> parameters;  // symbol and name
  std::vector<ExpressionPtr> defaults;                  // of the last parameters
  Block body;
  bool uses_caller = false;
  bool uses_arguments = false;  // varargs
  bool uses_keywords = false;   // kwargs
};

struct ForStatement {
  Target target;
  ExpressionPtr iterable;
  ExpressionPtr condition;  // may be null
  Block body;
  Block otherwise;
  bool uses_loop = false;
  bool is_recursive = false;
};

struct Statement {
  StatementKind kind = StatementKind::kText;
  int line = 1;
  std::string text;                        // kText
  std::vector<ExpressionPtr> expressions;  // kOutput; kSet and kWith: the values; a filter or call
  std::vector<Target> targets;             // kSet, kSetBlock, kWith
  std::vector<Branch> branches;            // kIf
  std::unique_ptr<ForStatement> loop;      // kFor
  std::unique_ptr<MacroStatement> macro;   // kMacro, kCallBlock
  Block body;                              // kSetBlock, kFilterBlock, kWith, kScope
};

/// A parsed template; immutable.
struct Program {
  Block body;
  std::vector<std::string> symbols;
  std::unordered_map<std::string, int> symbol_of;

  int intern(const std::string& name);
};

}  // namespace comet::text::jinja
