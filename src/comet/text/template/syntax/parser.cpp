#include "comet/text/template/syntax/parser.h"

#include "comet/text/template/syntax/expression_parser.h"

namespace comet::text::jinja {

int Program::intern(const std::string& name) {
  const auto [at, added] = symbol_of.emplace(name, static_cast<int>(symbols.size()));
  if (added) symbols.push_back(name);
  return at->second;
}

namespace {

using Nested = ExpressionParser::Nested;

class StatementParser {
 public:
  StatementParser(TokenStream& tokens, Program& program, const TemplateLimits& limits)
      : tokens_(tokens), program_(program), expressions_(tokens, program, limits) {}

  Block whole() {
    Block body = block({}, "");
    if (!tokens_.at(TokenKind::kEnd)) tokens_.unexpected("the end of the template");
    return body;
  }

 private:
  /// Statements up to a tag named in `ends`, whose name is then the current token.
  Block block(std::initializer_list<std::string_view> ends, std::string_view inside) {
    const Nested nested(expressions_);
    const int begin_line = tokens_.line();
    Block body;
    while (!tokens_.at(TokenKind::kEnd)) {
      if (tokens_.at(TokenKind::kData)) {
        StatementPtr text = make(StatementKind::kText);
        text->text = tokens_.take().text;
        body.push_back(std::move(text));
      } else if (tokens_.at(TokenKind::kVariableBegin)) {
        tokens_.skip();
        StatementPtr output = make(StatementKind::kOutput);
        output->expressions.push_back(expressions_.tuple());
        tokens_.expect(TokenKind::kVariableEnd);
        body.push_back(std::move(output));
      } else {
        tokens_.expect(TokenKind::kBlockBegin);
        for (const std::string_view end : ends) {
          if (tokens_.at_name(end)) return body;
        }
        body.push_back(statement());
        tokens_.expect(TokenKind::kBlockEnd);
      }
    }
    if (ends.size() > 0) {
      fail_at(begin_line, fmt::format("'{}' is not closed by '{}'", inside, *(ends.end() - 1)));
    }
    return body;
  }

  /// The same behind a tag's end, up to and with the closing name.
  Block body_until(std::string_view end, std::string_view inside) {
    begin_body();
    Block body = block({end}, inside);
    tokens_.skip();
    return body;
  }

  void begin_body() {
    tokens_.skip_operator(":");
    tokens_.expect(TokenKind::kBlockEnd);
  }

  StatementPtr make(StatementKind kind) {
    auto statement = std::make_unique<Statement>();
    statement->kind = kind;
    statement->line = tokens_.line();
    return statement;
  }

  StatementPtr statement() {
    const Token tag = tokens_.current();
    if (tag.kind != TokenKind::kName) tokens_.unexpected("the name of a tag");
    tokens_.skip();
    if (tag.text == "if") return if_statement();
    if (tag.text == "for") return for_statement();
    if (tag.text == "set") return set_statement();
    if (tag.text == "macro") return macro_statement();
    if (tag.text == "call") return call_block();
    if (tag.text == "filter") return filter_block();
    if (tag.text == "with") return with_statement();
    if (tag.text == "print") return print_statement();
    if (tag.text == "break" || tag.text == "continue") {
      if (num_loops_ == 0) fail_at(tag.line, fmt::format("'{}' stands outside a loop", tag.text));
      return make(tag.text == "break" ? StatementKind::kBreak : StatementKind::kContinue);
    }
    if (tag.text == "generation" || tag.text == "block") return scope_block(tag.text);
    for (const std::string_view refused : {"include", "import", "from", "extends", "autoescape"}) {
      if (tag.text == refused) {
        fail_at(tag.line, fmt::format("the tag '{}' is not supported in a chat template", refused));
      }
    }
    fail_at(tag.line, fmt::format("unknown tag '{}'", tag.text));
  }

  StatementPtr if_statement() {
    StatementPtr result = make(StatementKind::kIf);
    while (true) {
      Branch branch;
      branch.condition = expressions_.tuple(false);
      begin_body();
      branch.body = block({"elif", "else", "endif"}, "if");
      result->branches.push_back(std::move(branch));
      const std::string end = tokens_.take().text;
      if (end == "endif") return result;
      if (end == "else") {
        result->branches.push_back({nullptr, body_until("endif", "if")});
        return result;
      }
    }
  }

  StatementPtr for_statement() {
    StatementPtr result = make(StatementKind::kFor);
    result->loop = std::make_unique<ForStatement>();
    ForStatement& loop = *result->loop;
    loop.target = expressions_.target("in", false);
    if (loop.target.name == "loop") fail_at(result->line, "'loop' cannot be assigned");
    if (!tokens_.skip_name("in")) tokens_.unexpected("'in'");
    loop.iterable = expressions_.tuple(false, "recursive");
    if (tokens_.skip_name("if")) loop.condition = expressions_.expression();
    loop.is_recursive = tokens_.skip_name("recursive");
    begin_body();
    expressions_.mentions().emplace_back();
    ++num_loops_;
    loop.body = block({"else", "endfor"}, "for");
    --num_loops_;
    loop.uses_loop = expressions_.mentions().back().loop || loop.is_recursive;
    if (loop.uses_loop) program_.intern("loop");
    expressions_.mentions().pop_back();
    if (tokens_.take().text == "else") loop.otherwise = body_until("endfor", "for");
    return result;
  }

  StatementPtr set_statement() {
    StatementPtr result = make(StatementKind::kSet);
    result->targets.push_back(expressions_.target({}, true));
    if (tokens_.skip_operator("=")) {
      result->expressions.push_back(expressions_.tuple());
      return result;
    }
    result->kind = StatementKind::kSetBlock;
    result->expressions.push_back(expressions_.filters(nullptr));
    result->body = body_until("endset", "set");
    return result;
  }

  void signature(MacroStatement& macro) {
    tokens_.expect_operator("(");
    while (!tokens_.at_operator(")")) {
      const int line = tokens_.line();
      std::string name = tokens_.expect_name();
      for (const auto& [symbol, other] : macro.parameters) {
        if (other == name) fail_at(line, fmt::format("parameter '{}' is repeated", name));
      }
      const int symbol = program_.intern(name);
      macro.parameters.emplace_back(symbol, std::move(name));
      if (tokens_.skip_operator("=")) {
        macro.defaults.push_back(expressions_.expression());
      } else if (!macro.defaults.empty()) {
        fail_at(line, "a parameter without a default follows one with a default");
      }
      if (!tokens_.skip_operator(",")) break;
    }
    tokens_.expect_operator(")");
  }

  void macro_body(MacroStatement& macro, std::string_view end, std::string_view inside) {
    const int outer_loops = std::exchange(num_loops_, 0);
    expressions_.mentions().emplace_back();
    macro.body = body_until(end, inside);
    const Mentions mentions = expressions_.mentions().back();
    expressions_.mentions().pop_back();
    num_loops_ = outer_loops;
    const auto has = [&](std::string_view name) {
      for (const auto& [symbol, own] : macro.parameters) {
        if (own == name) return true;
      }
      return false;
    };
    macro.uses_caller = mentions.caller && !has("caller");
    macro.uses_arguments = mentions.varargs && !has("varargs");
    macro.uses_keywords = mentions.kwargs && !has("kwargs");
  }

  StatementPtr macro_statement() {
    StatementPtr result = make(StatementKind::kMacro);
    result->macro = std::make_unique<MacroStatement>();
    result->macro->name = tokens_.expect_name();
    result->macro->symbol = program_.intern(result->macro->name);
    signature(*result->macro);
    macro_body(*result->macro, "endmacro", "macro");
    return result;
  }

  StatementPtr call_block() {
    StatementPtr result = make(StatementKind::kCallBlock);
    result->macro = std::make_unique<MacroStatement>();
    if (tokens_.at_operator("(")) signature(*result->macro);
    result->expressions.push_back(expressions_.expression());
    if (result->expressions[0]->kind != ExpressionKind::kCall) {
      fail_at(result->line, "'call' needs a call of a macro");
    }
    macro_body(*result->macro, "endcall", "call");
    return result;
  }

  StatementPtr filter_block() {
    StatementPtr result = make(StatementKind::kFilterBlock);
    result->expressions.push_back(expressions_.filters(nullptr, true));
    result->body = body_until("endfilter", "filter");
    return result;
  }

  StatementPtr with_statement() {
    StatementPtr result = make(StatementKind::kWith);
    while (!tokens_.at(TokenKind::kBlockEnd)) {
      result->targets.push_back(expressions_.target({}, false));
      tokens_.expect_operator("=");
      result->expressions.push_back(expressions_.expression());
      if (!tokens_.skip_operator(",")) break;
    }
    result->body = body_until("endwith", "with");
    return result;
  }

  StatementPtr print_statement() {
    StatementPtr result = make(StatementKind::kOutput);
    while (!tokens_.at(TokenKind::kBlockEnd)) {
      result->expressions.push_back(expressions_.expression());
      if (!tokens_.skip_operator(",")) break;
    }
    return result;
  }

  StatementPtr scope_block(const std::string& tag) {
    StatementPtr result = make(StatementKind::kScope);
    std::string name;
    if (tag == "block") name = tokens_.expect_name();
    const int outer_loops = std::exchange(num_loops_, 0);
    result->body = body_until("end" + tag, tag);
    num_loops_ = outer_loops;
    if (tag == "block") tokens_.skip_name(name);
    return result;
  }

  TokenStream& tokens_;
  Program& program_;
  ExpressionParser expressions_;
  int num_loops_ = 0;
};

}  // namespace

std::unique_ptr<Program> parse_template(std::string_view source, const TemplateLimits& limits) {
  auto program = std::make_unique<Program>();
  TokenStream tokens(tokenize(source));
  program->body = StatementParser(tokens, *program, limits).whole();
  return program;
}

}  // namespace comet::text::jinja
