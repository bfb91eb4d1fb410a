// Expressions of a template, by precedence. Caller: the statement parser.
#pragma once

#include "comet/text/template/syntax/ast.h"
#include "comet/text/template/syntax/token_stream.h"
#include "comet/text/template_limits.h"

namespace comet::text::jinja {

/// Which special names a body mentions: one stands on the parser's stack for every open macro, call
/// block or loop.
struct Mentions {
  bool loop = false;
  bool caller = false;
  bool varargs = false;
  bool kwargs = false;
};

class ExpressionParser {
 public:
  ExpressionParser(TokenStream& tokens, Program& program, const TemplateLimits& limits)
      : tokens_(tokens), program_(program), limits_(limits) {}

  ExpressionPtr expression(bool with_condition = true);
  /// An expression, or a tuple where commas follow; `end_name` also ends it ("in", "recursive").
  ExpressionPtr tuple(bool with_condition = true, std::string_view end_name = {},
                      bool in_parentheses = false);
  /// Behind a '|', or with the name next when `starts_inline`; `input` may be null.
  ExpressionPtr filters(ExpressionPtr input, bool starts_inline = false);
  Target target(std::string_view end_name, bool with_attribute);

  std::vector<Mentions>& mentions() { return mentions_; }

  /// One level of the template's nesting, while it lives.
  class Nested {
   public:
    explicit Nested(ExpressionParser& parser) : parser_(parser) {
      if (++parser_.nesting_ > parser_.limits_.max_nesting) parser_.fail_nesting();
    }
    ~Nested() { --parser_.nesting_; }
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;

   private:
    ExpressionParser& parser_;
  };

 private:
  ExpressionPtr conditional();
  ExpressionPtr disjunction();
  ExpressionPtr conjunction();
  ExpressionPtr negation();
  ExpressionPtr comparison();
  ExpressionPtr sum();
  ExpressionPtr concatenation();
  ExpressionPtr product();
  ExpressionPtr power();
  ExpressionPtr unary(bool with_filters = true);
  ExpressionPtr primary();
  ExpressionPtr name();
  ExpressionPtr list();
  ExpressionPtr dict();
  ExpressionPtr postfix(ExpressionPtr left);
  ExpressionPtr filters_and_tests(ExpressionPtr left);
  ExpressionPtr test(ExpressionPtr left);
  ExpressionPtr attribute(ExpressionPtr left);
  ExpressionPtr subscript(ExpressionPtr left);
  ExpressionPtr call(ExpressionPtr callee);
  std::unique_ptr<Arguments> call_arguments();
  std::string dotted_name();  // of a filter or test
  Target simple_target(bool with_attribute);

  ExpressionPtr make(ExpressionKind kind, int line);
  /// Adds `part`, and checks how deep the tree has become.
  void add(Expression& parent, ExpressionPtr part);
  ExpressionPtr binary(ExpressionKind kind, Operator op, ExpressionPtr left, ExpressionPtr right);
  void set_arguments(Expression& parent, std::unique_ptr<Arguments> arguments);
  void deepen(Expression& parent, const ExpressionPtr& part);
  void mention(const std::string& name);
  [[nodiscard]] bool at_tuple_end(std::string_view end_name) const;
  [[noreturn]] void fail_nesting() const;

  TokenStream& tokens_;
  Program& program_;
  const TemplateLimits& limits_;
  std::vector<Mentions> mentions_;
  int nesting_ = 0;
};

}  // namespace comet::text::jinja
