#include "comet/text/template/syntax/expression_parser.h"

#include <algorithm>

namespace comet::text::jinja {
namespace {

/// The comparison that stands next, if one does, and takes it.
std::optional<Operator> take_comparison(TokenStream& tokens) {
  constexpr std::pair<std::string_view, Operator> kOperators[] = {
      {"==", Operator::kEqual},     {"!=", Operator::kNotEqual}, {"<", Operator::kLess},
      {"<=", Operator::kLessEqual}, {">", Operator::kGreater},   {">=", Operator::kGreaterEqual}};
  std::optional<Operator> op;
  for (const auto& [text, each] : kOperators) {
    if (tokens.at_operator(text)) op = each;
  }
  if (tokens.at_name("in")) op = Operator::kIn;
  if (tokens.at_name("not") && TokenStream::is_name(tokens.next_token(), "in")) {
    tokens.skip();
    op = Operator::kNotIn;
  }
  if (op) tokens.skip();
  return op;
}

}  // namespace

void ExpressionParser::fail_nesting() const {
  fail_at(tokens_.line(),
          fmt::format("the template is nested deeper than {} levels", limits_.max_nesting));
}

ExpressionPtr ExpressionParser::make(ExpressionKind kind, int line) {
  auto expression = std::make_unique<Expression>();
  expression->kind = kind;
  expression->line = line;
  return expression;
}

void ExpressionParser::deepen(Expression& parent, const ExpressionPtr& part) {
  if (part == nullptr) return;
  parent.depth = std::max(parent.depth, part->depth + 1);
  if (parent.depth > limits_.max_nesting) fail_nesting();
}

void ExpressionParser::add(Expression& parent, ExpressionPtr part) {
  deepen(parent, part);
  parent.parts.push_back(std::move(part));
}

void ExpressionParser::set_arguments(Expression& parent, std::unique_ptr<Arguments> arguments) {
  for (const ExpressionPtr& each : arguments->positional) deepen(parent, each);
  for (const auto& [name, each] : arguments->named) deepen(parent, each);
  deepen(parent, arguments->star);
  deepen(parent, arguments->double_star);
  parent.arguments = std::move(arguments);
}

ExpressionPtr ExpressionParser::binary(ExpressionKind kind, Operator op, ExpressionPtr left,
                                       ExpressionPtr right) {
  ExpressionPtr result = make(kind, left->line);
  result->op = op;
  add(*result, std::move(left));
  add(*result, std::move(right));
  return result;
}

void ExpressionParser::mention(const std::string& name) {
  if (name != "loop" && name != "caller" && name != "varargs" && name != "kwargs") return;
  for (Mentions& each : mentions_) {
    each.loop |= name == "loop";
    each.caller |= name == "caller";
    each.varargs |= name == "varargs";
    each.kwargs |= name == "kwargs";
  }
}

bool ExpressionParser::at_tuple_end(std::string_view end_name) const {
  return tokens_.at(TokenKind::kVariableEnd) || tokens_.at(TokenKind::kBlockEnd) ||
         tokens_.at_operator(")") || (!end_name.empty() && tokens_.at_name(end_name));
}

ExpressionPtr ExpressionParser::tuple(bool with_condition, std::string_view end_name,
                                      bool in_parentheses) {
  const int line = tokens_.line();
  std::vector<ExpressionPtr> items;
  bool is_tuple = false;
  while (!at_tuple_end(end_name)) {
    items.push_back(expression(with_condition));
    if (!tokens_.skip_operator(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && !items.empty()) return std::move(items[0]);
  if (!is_tuple && !in_parentheses) tokens_.unexpected("an expression");
  ExpressionPtr result = make(ExpressionKind::kTuple, line);
  for (ExpressionPtr& item : items) add(*result, std::move(item));
  return result;
}

ExpressionPtr ExpressionParser::expression(bool with_condition) {
  const Nested nested(*this);
  return with_condition ? conditional() : disjunction();
}

ExpressionPtr ExpressionParser::conditional() {
  const Nested nested(*this);
  ExpressionPtr left = disjunction();
  while (tokens_.skip_name("if")) {
    ExpressionPtr result = make(ExpressionKind::kConditional, left->line);
    add(*result, std::move(left));
    add(*result, disjunction());
    add(*result, tokens_.skip_name("else") ? conditional() : nullptr);
    left = std::move(result);
  }
  return left;
}

ExpressionPtr ExpressionParser::disjunction() {
  ExpressionPtr left = conjunction();
  while (tokens_.skip_name("or")) {
    left = binary(ExpressionKind::kOr, Operator::kAdd, std::move(left), conjunction());
  }
  return left;
}

ExpressionPtr ExpressionParser::conjunction() {
  ExpressionPtr left = negation();
  while (tokens_.skip_name("and")) {
    left = binary(ExpressionKind::kAnd, Operator::kAdd, std::move(left), negation());
  }
  return left;
}

ExpressionPtr ExpressionParser::negation() {
  if (!tokens_.at_name("not")) return comparison();
  const Nested nested(*this);
  ExpressionPtr result = make(ExpressionKind::kNot, tokens_.line());
  tokens_.skip();
  add(*result, negation());
  return result;
}

ExpressionPtr ExpressionParser::comparison() {
  ExpressionPtr left = sum();
  std::optional<Operator> op = take_comparison(tokens_);
  if (!op) return left;
  ExpressionPtr result = make(ExpressionKind::kComparison, left->line);
  add(*result, std::move(left));
  for (; op; op = take_comparison(tokens_)) {
    result->ops.push_back(*op);
    add(*result, sum());
  }
  return result;
}

ExpressionPtr ExpressionParser::sum() {
  ExpressionPtr left = concatenation();
  while (tokens_.at_operator("+") || tokens_.at_operator("-")) {
    const Operator op = tokens_.take().text == "+" ? Operator::kAdd : Operator::kSubtract;
    left = binary(ExpressionKind::kArithmetic, op, std::move(left), concatenation());
  }
  return left;
}

ExpressionPtr ExpressionParser::concatenation() {
  ExpressionPtr left = product();
  if (!tokens_.at_operator("~")) return left;
  ExpressionPtr result = make(ExpressionKind::kConcat, left->line);
  add(*result, std::move(left));
  while (tokens_.skip_operator("~")) add(*result, product());
  return result;
}

ExpressionPtr ExpressionParser::product() {
  constexpr std::pair<std::string_view, Operator> kOperators[] = {{"*", Operator::kMultiply},
                                                                  {"/", Operator::kDivide},
                                                                  {"//", Operator::kFloorDivide},
                                                                  {"%", Operator::kModulo}};
  ExpressionPtr left = power();
  while (true) {
    const auto* const found =
        std::find_if(std::begin(kOperators), std::end(kOperators),
                     [&](const auto& each) { return tokens_.at_operator(each.first); });
    if (found == std::end(kOperators)) return left;
    tokens_.skip();
    left = binary(ExpressionKind::kArithmetic, found->second, std::move(left), power());
  }
}

ExpressionPtr ExpressionParser::power() {
  ExpressionPtr left = unary();
  while (tokens_.skip_operator("**")) {
    left = binary(ExpressionKind::kArithmetic, Operator::kPower, std::move(left), unary());
  }
  return left;
}

ExpressionPtr ExpressionParser::unary(bool with_filters) {
  const Nested nested(*this);
  ExpressionPtr result;
  if (tokens_.at_operator("-") || tokens_.at_operator("+")) {
    const Token sign = tokens_.take();
    result =
        make(sign.text == "-" ? ExpressionKind::kNegative : ExpressionKind::kPositive, sign.line);
    add(*result, unary(false));
  } else {
    result = primary();
  }
  result = postfix(std::move(result));
  return with_filters ? filters_and_tests(std::move(result)) : std::move(result);
}

ExpressionPtr ExpressionParser::name() {
  ExpressionPtr result = make(ExpressionKind::kConstant, tokens_.line());
  const std::string text = tokens_.take().text;
  if (text == "true" || text == "True") {
    result->value = Value::boolean(true);
  } else if (text == "false" || text == "False") {
    result->value = Value::boolean(false);
  } else if (text == "none" || text == "None") {
    result->value = Value::none();
  } else {
    result->kind = ExpressionKind::kName;
    result->name = text;
    result->symbol = program_.intern(text);
    mention(text);
  }
  return result;
}

ExpressionPtr ExpressionParser::primary() {
  const int line = tokens_.line();
  switch (tokens_.current().kind) {
    case TokenKind::kName:
      return name();
    case TokenKind::kString: {
      std::string text = tokens_.take().text;
      while (tokens_.at(TokenKind::kString)) text += tokens_.take().text;
      ExpressionPtr result = make(ExpressionKind::kConstant, line);
      result->value = Value::text(std::move(text));
      return result;
    }
    case TokenKind::kInteger:
    case TokenKind::kFloat: {
      const Token token = tokens_.take();
      ExpressionPtr result = make(ExpressionKind::kConstant, line);
      result->value =
          token.kind == TokenKind::kFloat ? Value::real(token.real) : Value::integer(token.integer);
      return result;
    }
    default:
      break;
  }
  if (tokens_.skip_operator("(")) {
    ExpressionPtr result = tuple(true, {}, true);
    tokens_.expect_operator(")");
    return result;
  }
  if (tokens_.at_operator("[")) return list();
  if (tokens_.at_operator("{")) return dict();
  tokens_.unexpected("an expression");
}

ExpressionPtr ExpressionParser::list() {
  ExpressionPtr result = make(ExpressionKind::kList, tokens_.line());
  tokens_.expect_operator("[");
  while (!tokens_.at_operator("]")) {
    add(*result, expression());
    if (!tokens_.skip_operator(",")) break;
  }
  tokens_.expect_operator("]");
  return result;
}

ExpressionPtr ExpressionParser::dict() {
  ExpressionPtr result = make(ExpressionKind::kDict, tokens_.line());
  tokens_.expect_operator("{");
  while (!tokens_.at_operator("}")) {
    add(*result, expression());
    tokens_.expect_operator(":");
    add(*result, expression());
    if (!tokens_.skip_operator(",")) break;
  }
  tokens_.expect_operator("}");
  return result;
}

}  // namespace comet::text::jinja
