// The variables of a block while it runs. Internal to the interpreter.
#pragma once

#include <memory>
#include <utility>

#include "comet/text/template/run/interpreter.h"

namespace comet::text::jinja {

class Interpreter::BlockScope {
 public:
  /// Inside `parent`, which is the present scope unless another one is given.
  explicit BlockScope(Interpreter& run, Scope* parent = nullptr)
      : run_(run), outer_(run.scope_), scope_(std::make_unique<Scope>()) {
    scope_->parent = parent == nullptr ? outer_ : parent;
    run_.scope_ = scope_.get();
  }
  ~BlockScope() {
    run_.scope_ = outer_;
    keep();
  }
  BlockScope(const BlockScope&) = delete;
  BlockScope& operator=(const BlockScope&) = delete;

  /// For the next round of a loop: no variables.
  void clear() {
    if (scope_->is_captured) {
      Scope* const parent = scope_->parent;
      keep();
      scope_ = std::make_unique<Scope>();
      scope_->parent = parent;
      run_.scope_ = scope_.get();
    } else {
      scope_->variables.clear();
    }
  }

 private:
  /// A captured scope lives as long as the render.
  void keep() {
    if (scope_->is_captured) run_.kept_scopes_.push_back(std::move(scope_));
  }

  Interpreter& run_;
  Scope* outer_;
  std::unique_ptr<Scope> scope_;
};

}  // namespace comet::text::jinja
