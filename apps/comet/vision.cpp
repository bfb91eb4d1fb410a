// comet vision classify|validate|…: image classifiers.
#include "apps/comet/command.h"

namespace comet::cli {

void add_vision_classify(CLI::App& vision, const Globals& globals, Action& action);
void add_vision_validate(CLI::App& vision, const Globals& globals, Action& action);
void add_vision_train(CLI::App& vision, const Globals& globals, Action& action);
void add_vision_quantize(CLI::App& vision, const Globals& globals, Action& action);

void add_vision(CLI::App& app, const Globals& globals, Action& action) {
  CLI::App& vision = *app.add_subcommand("vision", "Image classifiers");
  vision.require_subcommand(1);
  vision.fallthrough();
  add_vision_classify(vision, globals, action);
  add_vision_validate(vision, globals, action);
  add_vision_train(vision, globals, action);
  add_vision_quantize(vision, globals, action);
}

}  // namespace comet::cli
