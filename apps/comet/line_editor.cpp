#include "apps/comet/line_editor.h"

#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <string_view>
#include <utility>

#include "comet/text/unicode/utf8.h"

namespace comet::cli {
namespace {

constexpr size_t kMaxHistory = 500;
constexpr size_t kMaxLineBytes = size_t{8} << 20;
constexpr char kEscape = 27;
constexpr std::string_view kPasteEnd = "\x1b[201~";
constexpr std::string_view kLineEndMark = "\xE2\x8F\x8E";  // shown for a line end inside a paste

void write_all(std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(STDOUT_FILENO, text.data(), text.size());
    if (n < 0 && errno != EINTR) return;
    if (n > 0) text.remove_prefix(static_cast<size_t>(n));
  }
}

size_t terminal_columns() {
  winsize size{};
  const bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

bool is_continuation(char byte) { return (static_cast<uint8_t>(byte) & 0xC0) == 0x80; }

size_t before(const std::string& line, size_t at) {
  if (at > 0) --at;
  while (at > 0 && is_continuation(line[at])) --at;
  return at;
}

size_t behind(const std::string& line, size_t at) {
  if (at < line.size()) ++at;
  while (at < line.size() && is_continuation(line[at])) ++at;
  return at;
}

size_t word_before(const std::string& line, size_t at) {
  while (at > 0 && line[at - 1] == ' ') --at;
  while (at > 0 && line[at - 1] != ' ') --at;
  return at;
}

/// Columns of a character: two for the scripts and signs that terminals draw wide.
size_t columns_of(uint32_t c) {
  const bool is_wide = (c >= 0x1100 && c <= 0x115F) || (c >= 0x2E80 && c <= 0xA4CF) ||
                       (c >= 0xAC00 && c <= 0xD7A3) || (c >= 0xF900 && c <= 0xFAFF) ||
                       (c >= 0xFE30 && c <= 0xFE6F) || (c >= 0xFF00 && c <= 0xFF60) ||
                       (c >= 0x1F300 && c <= 0x1FAFF) || (c >= 0x20000 && c <= 0x3FFFD);
  const bool is_combining = c >= 0x300 && c <= 0x36F;
  return is_combining ? 0 : is_wide ? 2 : 1;
}

struct Glyph {
  std::string_view text;
  size_t columns;
  size_t at;  // its byte in the line
};

std::vector<Glyph> glyphs_of(const std::string& line) {
  std::vector<Glyph> glyphs;
  for (size_t at = 0; at < line.size();) {
    const text::CodePoint c = text::code_point_at(line, at);
    if (c.value == '\n') {
      glyphs.push_back({kLineEndMark, 1, at});
    } else if (c.value < 0x20 || c.value == 0x7F) {
      glyphs.push_back({" ", 1, at});
    } else {
      glyphs.push_back({std::string_view(line).substr(at, c.num_bytes), columns_of(c.value), at});
    }
    at += c.num_bytes;
  }
  return glyphs;
}

}  // namespace

enum class LineEditor::Key {
  kText,
  kEnter,
  kInterrupt,
  kEndOfInput,  // Ctrl-D
  kBackspace,
  kDelete,
  kLeft,
  kRight,
  kHome,
  kEnd,
  kUp,
  kDown,
  kWordLeft,
  kWordRight,
  kEraseWord,
  kEraseStart,
  kEraseRest,
  kClearScreen,
  kNothing,
  kClosed,  // the input has ended
};

/// The terminal gives every key at once and marks pastes, while this lives.
class LineEditor::RawMode {
 public:
  RawMode() {
    tcgetattr(STDIN_FILENO, &before_);
    termios raw = before_;
    raw.c_iflag &= ~static_cast<tcflag_t>(ICRNL | IXON);
    raw.c_lflag &= ~static_cast<tcflag_t>(ECHO | ICANON | ISIG | IEXTEN);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
    write_all("\x1b[?2004h");
  }
  ~RawMode() {
    write_all("\x1b[?2004l");
    tcsetattr(STDIN_FILENO, TCSADRAIN, &before_);
  }
  RawMode(const RawMode&) = delete;
  RawMode& operator=(const RawMode&) = delete;

 private:
  termios before_{};
};

LineEditor::LineEditor() : is_terminal_(isatty(STDIN_FILENO) != 0 && isatty(STDOUT_FILENO) != 0) {}

LineEditor::Outcome LineEditor::read(const std::string& prompt, std::string& line) {
  line.clear();
  if (!is_terminal_) return read_plain(line);
  const RawMode raw;
  line_.clear();
  cursor_ = 0;
  recalled_ = history_.size();
  const Outcome outcome = edit(prompt);
  write_all("\r\n");
  line = text::replace_invalid_utf8(line_);
  return outcome;
}

LineEditor::Outcome LineEditor::read_plain(std::string& line) {
  while (true) {
    const size_t end = input_.find('\n');
    if (end != std::string::npos) {
      line = input_.substr(0, end);
      input_.erase(0, end + 1);
      if (line.ends_with('\r')) line.pop_back();
      return Outcome::kLine;
    }
    if (at_end_ || input_.size() > kMaxLineBytes) {
      line = std::exchange(input_, {});
      return line.empty() ? Outcome::kEnd : Outcome::kLine;
    }
    char buffer[4096];
    const ssize_t n = ::read(STDIN_FILENO, buffer, sizeof buffer);
    if (n > 0) input_.append(buffer, static_cast<size_t>(n));
    if (n == 0 || (n < 0 && errno != EINTR)) at_end_ = true;
  }
}

void LineEditor::remember(const std::string& entry) {
  if (entry.empty() || (!history_.empty() && history_.back() == entry)) return;
  history_.push_back(entry);
  if (history_.size() > kMaxHistory) history_.erase(history_.begin());
}

LineEditor::Outcome LineEditor::edit(const std::string& prompt) {
  while (true) {
    show(prompt);
    std::string typed;
    const Key key = next_key(typed);
    if (key == Key::kEnter) return Outcome::kLine;
    if (key == Key::kInterrupt) return Outcome::kInterrupted;
    if (key == Key::kClosed) return Outcome::kEnd;
    if (key == Key::kEndOfInput && line_.empty()) return Outcome::kEnd;
    apply(key, typed);
  }
}

/// One row; of a longer line the part around the cursor.
void LineEditor::show(const std::string& prompt) const {
  const std::string valid = text::replace_invalid_utf8(line_);
  const std::vector<Glyph> glyphs = glyphs_of(valid);
  const size_t room = std::max<size_t>(terminal_columns(), prompt.size() + 12) - prompt.size() - 1;
  size_t begin = 0;
  size_t columns_before_cursor = 0;
  for (size_t i = 0; i < glyphs.size() && glyphs[i].at < cursor_; ++i) {
    columns_before_cursor += glyphs[i].columns;
    while (columns_before_cursor > room) columns_before_cursor -= glyphs[begin++].columns;
  }
  std::string out = "\r\x1b[K" + prompt;
  size_t columns = 0;
  for (size_t i = begin; i < glyphs.size() && columns + glyphs[i].columns <= room; ++i) {
    out += glyphs[i].text;
    columns += glyphs[i].columns;
  }
  out += "\r";
  const size_t column = prompt.size() + columns_before_cursor;
  if (column > 0) {
    out += "\x1b[";
    out += std::to_string(column);
    out += 'C';
  }
  write_all(out);
}

int LineEditor::next_byte() {
  char byte = 0;
  while (true) {
    const ssize_t n = ::read(STDIN_FILENO, &byte, 1);
    if (n == 1) return static_cast<uint8_t>(byte);
    if (n == 0 || errno != EINTR) return -1;
  }
}

LineEditor::Key LineEditor::next_key(std::string& typed) {
  const int byte = next_byte();
  constexpr std::pair<int, Key> kControls[] = {
      {'\r', Key::kEnter},     {'\n', Key::kEnter},    {3, Key::kInterrupt},
      {4, Key::kEndOfInput},   {127, Key::kBackspace}, {8, Key::kBackspace},
      {1, Key::kHome},         {5, Key::kEnd},         {2, Key::kLeft},
      {6, Key::kRight},        {16, Key::kUp},         {14, Key::kDown},
      {23, Key::kEraseWord},   {21, Key::kEraseStart}, {11, Key::kEraseRest},
      {12, Key::kClearScreen}, {-1, Key::kClosed}};
  for (const auto& [code, key] : kControls) {
    if (byte == code) return key;
  }
  if (byte == kEscape) return escape_sequence(typed);
  if (byte < 0x20 && byte != '\t') return Key::kNothing;
  typed.push_back(static_cast<char>(byte));
  // The rest of a character beyond ASCII.
  const int more = byte >= 0xF0 ? 3 : byte >= 0xE0 ? 2 : byte >= 0xC0 ? 1 : 0;
  for (int i = 0; i < more; ++i) typed.push_back(static_cast<char>(next_byte()));
  return Key::kText;
}

LineEditor::Key LineEditor::escape_sequence(std::string& typed) {
  int byte = next_byte();
  if (byte == 'b') return Key::kWordLeft;
  if (byte == 'f') return Key::kWordRight;
  if (byte != '[' && byte != 'O') return Key::kNothing;
  std::string sequence;
  do {
    byte = next_byte();
    if (byte < 0) return Key::kClosed;
    sequence.push_back(static_cast<char>(byte));
  } while ((byte < '@' || byte > '~') && sequence.size() < 16);
  if (sequence == "200~") {
    paste(typed);
    return Key::kText;
  }
  constexpr std::pair<std::string_view, Key> kSequences[] = {
      {"A", Key::kUp},      {"B", Key::kDown},        {"C", Key::kRight},       {"D", Key::kLeft},
      {"H", Key::kHome},    {"F", Key::kEnd},         {"1~", Key::kHome},       {"4~", Key::kEnd},
      {"3~", Key::kDelete}, {"1;5D", Key::kWordLeft}, {"1;5C", Key::kWordRight}};
  for (const auto& [text, key] : kSequences) {
    if (sequence == text) return key;
  }
  return Key::kNothing;
}

void LineEditor::paste(std::string& typed) {
  while (!typed.ends_with(kPasteEnd) && typed.size() < kMaxLineBytes) {
    const int byte = next_byte();
    if (byte < 0) return;
    typed.push_back(byte == '\r' ? '\n' : static_cast<char>(byte));
  }
  if (typed.ends_with(kPasteEnd)) typed.resize(typed.size() - kPasteEnd.size());
}

void LineEditor::recall(int direction) {
  if (direction < 0 ? recalled_ == 0 : recalled_ == history_.size()) return;
  if (recalled_ == history_.size()) unfinished_ = line_;
  recalled_ = direction < 0 ? recalled_ - 1 : recalled_ + 1;
  line_ = recalled_ == history_.size() ? unfinished_ : history_[recalled_];
  cursor_ = line_.size();
}

void LineEditor::apply(Key key, const std::string& typed) {
  const auto erase = [&](size_t begin, size_t end) {
    line_.erase(begin, end - begin);
    cursor_ = begin;
  };
  const auto word_behind = [&] {
    size_t at = cursor_;
    while (at < line_.size() && line_[at] == ' ') ++at;
    while (at < line_.size() && line_[at] != ' ') ++at;
    return at;
  };
  switch (key) {
    case Key::kText:
      line_.insert(cursor_, typed);
      cursor_ += typed.size();
      break;
    case Key::kBackspace:
      erase(before(line_, cursor_), cursor_);
      break;
    case Key::kDelete:
    case Key::kEndOfInput:
      erase(cursor_, behind(line_, cursor_));
      break;
    case Key::kLeft:
      cursor_ = before(line_, cursor_);
      break;
    case Key::kRight:
      cursor_ = behind(line_, cursor_);
      break;
    case Key::kHome:
      cursor_ = 0;
      break;
    case Key::kEnd:
      cursor_ = line_.size();
      break;
    case Key::kUp:
      recall(-1);
      break;
    case Key::kDown:
      recall(1);
      break;
    case Key::kWordLeft:
      cursor_ = word_before(line_, cursor_);
      break;
    case Key::kWordRight:
      cursor_ = word_behind();
      break;
    case Key::kEraseWord:
      erase(word_before(line_, cursor_), cursor_);
      break;
    case Key::kEraseStart:
      erase(0, cursor_);
      break;
    case Key::kEraseRest:
      erase(cursor_, line_.size());
      break;
    case Key::kClearScreen:
      write_all("\x1b[H\x1b[2J");
      break;
    default:
      break;
  }
}

}  // namespace comet::cli
