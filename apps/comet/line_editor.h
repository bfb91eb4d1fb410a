// Lines that a person types at a terminal: cursor keys, history, words and pastes of several lines.
// Where standard input is no terminal it reads plain lines. Caller: chat.
#pragma once

#include <string>
#include <vector>

namespace comet::cli {

class LineEditor {
 public:
  enum class Outcome { kLine, kInterrupted, kEnd };

  LineEditor();

  [[nodiscard]] bool is_terminal() const { return is_terminal_; }
  /// One line without its end; `prompt` is shown on a terminal only. kInterrupted: Ctrl-C, the line
  /// is what was typed. kEnd: Ctrl-D on an empty line, or the end of the input.
  Outcome read(const std::string& prompt, std::string& line);
  /// For the up key.
  void remember(const std::string& entry);

 private:
  class RawMode;
  enum class Key;

  Outcome read_plain(std::string& line);
  Outcome edit(const std::string& prompt);
  void show(const std::string& prompt) const;
  int next_byte();
  Key next_key(std::string& typed);
  Key escape_sequence(std::string& typed);
  void paste(std::string& typed);
  void apply(Key key, const std::string& typed);
  void recall(int direction);

  bool is_terminal_;
  std::string input_;  // plain: what was read beyond the last line
  bool at_end_ = false;
  std::string line_;
  size_t cursor_ = 0;  // a byte position in line_
  std::vector<std::string> history_;
  size_t recalled_ = 0;     // history_.size(): the line that is being typed
  std::string unfinished_;  // that line, while an earlier one is shown
};

}  // namespace comet::cli
