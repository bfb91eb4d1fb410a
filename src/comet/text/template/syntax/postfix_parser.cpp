// What may follow an operand: attributes, subscripts, calls, filters and tests; and the targets of
// assignments.
#include "comet/text/template/syntax/expression_parser.h"

namespace comet::text::jinja {

ExpressionPtr ExpressionParser::postfix(ExpressionPtr left) {
  while (true) {
    if (tokens_.at_operator(".")) {
      left = attribute(std::move(left));
    } else if (tokens_.at_operator("[")) {
      left = subscript(std::move(left));
    } else if (tokens_.at_operator("(")) {
      left = call(std::move(left));
    } else {
      return left;
    }
  }
}

ExpressionPtr ExpressionParser::filters_and_tests(ExpressionPtr left) {
  while (true) {
    if (tokens_.at_operator("|")) {
      left = filters(std::move(left));
    } else if (tokens_.at_name("is")) {
      left = test(std::move(left));
    } else if (tokens_.at_operator("(")) {
      left = call(std::move(left));
    } else {
      return left;
    }
  }
}

ExpressionPtr ExpressionParser::attribute(ExpressionPtr left) {
  const int line = tokens_.line();
  tokens_.skip();
  if (tokens_.at(TokenKind::kName)) {
    ExpressionPtr result = make(ExpressionKind::kAttribute, line);
    result->name = tokens_.take().text;
    add(*result, std::move(left));
    return result;
  }
  if (!tokens_.at(TokenKind::kInteger)) tokens_.unexpected("a name or a number");
  ExpressionPtr idx = make(ExpressionKind::kConstant, line);
  idx->value = Value::integer(tokens_.take().integer);
  return binary(ExpressionKind::kSubscript, Operator::kAdd, std::move(left), std::move(idx));
}

ExpressionPtr ExpressionParser::subscript(ExpressionPtr left) {
  const int line = tokens_.line();
  tokens_.expect_operator("[");
  ExpressionPtr bounds[3];
  bool is_slice = false;
  if (!tokens_.at_operator(":")) bounds[0] = expression();
  for (int i = 1; i < 3 && tokens_.skip_operator(":"); ++i) {
    is_slice = true;
    if (!tokens_.at_operator(":") && !tokens_.at_operator("]")) bounds[i] = expression();
  }
  tokens_.expect_operator("]");
  ExpressionPtr result = make(is_slice ? ExpressionKind::kSlice : ExpressionKind::kSubscript, line);
  add(*result, std::move(left));
  for (int i = 0; i < (is_slice ? 3 : 1); ++i) add(*result, std::move(bounds[i]));
  return result;
}

ExpressionPtr ExpressionParser::call(ExpressionPtr callee) {
  ExpressionPtr result = make(ExpressionKind::kCall, tokens_.line());
  add(*result, std::move(callee));
  set_arguments(*result, call_arguments());
  return result;
}

std::unique_ptr<Arguments> ExpressionParser::call_arguments() {
  auto arguments = std::make_unique<Arguments>();
  tokens_.expect_operator("(");
  while (!tokens_.at_operator(")")) {
    const bool any_star = arguments->star != nullptr || arguments->double_star != nullptr;
    const bool is_named =
        tokens_.at(TokenKind::kName) && TokenStream::is_operator(tokens_.next_token(), "=");
    if (arguments->double_star != nullptr) tokens_.unexpected("')' behind a ** argument");
    if (tokens_.at_operator("**")) {
      tokens_.skip();
      arguments->double_star = expression();
    } else if (tokens_.at_operator("*") && !any_star) {
      tokens_.skip();
      arguments->star = expression();
    } else if (is_named) {
      std::string name = tokens_.take().text;
      tokens_.skip();
      for (const auto& [other, value] : arguments->named) {
        if (other == name) fail_at(tokens_.line(), fmt::format("argument '{}' is repeated", name));
      }
      arguments->named.emplace_back(std::move(name), expression());
    } else if (!any_star && arguments->named.empty()) {
      arguments->positional.push_back(expression());
    } else {
      tokens_.unexpected("a named argument");
    }
    if (!tokens_.skip_operator(",")) break;
  }
  tokens_.expect_operator(")");
  return arguments;
}

std::string ExpressionParser::dotted_name() {
  std::string name = tokens_.expect_name();
  while (tokens_.skip_operator(".")) name += '.' + tokens_.expect_name();
  return name;
}

ExpressionPtr ExpressionParser::filters(ExpressionPtr input, bool starts_inline) {
  while (starts_inline || tokens_.skip_operator("|")) {
    starts_inline = false;
    ExpressionPtr result = make(ExpressionKind::kFilter, tokens_.line());
    result->name = dotted_name();
    add(*result, std::move(input));
    set_arguments(*result,
                  tokens_.at_operator("(") ? call_arguments() : std::make_unique<Arguments>());
    input = std::move(result);
  }
  return input;
}

ExpressionPtr ExpressionParser::test(ExpressionPtr left) {
  const int line = tokens_.line();
  tokens_.skip();
  const bool is_negated = tokens_.skip_name("not");
  ExpressionPtr result = make(ExpressionKind::kTest, line);
  result->name = dotted_name();
  add(*result, std::move(left));
  auto arguments = std::make_unique<Arguments>();
  const Token& token = tokens_.current();
  const bool is_keyword =
      tokens_.at_name("else") || tokens_.at_name("or") || tokens_.at_name("and");
  if (tokens_.at_operator("(")) {
    arguments = call_arguments();
  } else if ((token.kind == TokenKind::kName && !is_keyword) || token.kind == TokenKind::kString ||
             token.kind == TokenKind::kInteger || token.kind == TokenKind::kFloat ||
             tokens_.at_operator("[") || tokens_.at_operator("{")) {
    if (tokens_.at_name("is")) fail_at(tokens_.line(), "tests with 'is' cannot be chained");
    arguments->positional.push_back(postfix(primary()));
  }
  set_arguments(*result, std::move(arguments));
  if (!is_negated) return result;
  ExpressionPtr negated = make(ExpressionKind::kNot, line);
  add(*negated, std::move(result));
  return negated;
}

Target ExpressionParser::simple_target(bool with_attribute) {
  if (tokens_.skip_operator("(")) {
    Target result = target({}, with_attribute);
    tokens_.expect_operator(")");
    return result;
  }
  const int line = tokens_.line();
  Target result;
  result.name = tokens_.expect_name();
  for (const std::string_view constant : {"true", "false", "none", "True", "False", "None"}) {
    if (result.name == constant) fail_at(line, fmt::format("'{}' cannot be assigned", constant));
  }
  result.symbol = program_.intern(result.name);
  if (with_attribute && tokens_.skip_operator(".")) {
    result.attribute = tokens_.expect_name();
    mention(result.name);
  }
  return result;
}

Target ExpressionParser::target(std::string_view end_name, bool with_attribute) {
  const Nested nested(*this);
  Target result;
  result.is_tuple = true;
  bool has_comma = false;
  while (!at_tuple_end(end_name) && !tokens_.at_operator("=")) {
    result.parts.push_back(simple_target(with_attribute));
    has_comma = tokens_.skip_operator(",");
    if (!has_comma) break;
  }
  if (result.parts.empty()) tokens_.unexpected("a name to assign to");
  if (result.parts.size() == 1 && !has_comma) {
    Target only = std::move(result.parts[0]);
    return only;
  }
  return result;
}

}  // namespace comet::text::jinja
