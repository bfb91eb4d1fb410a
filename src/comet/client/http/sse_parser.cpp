#include "comet/client/http/sse_parser.h"

namespace comet::client {

bool SseParser::feed(std::string_view bytes, const std::function<bool(std::string_view)>& on_data) {
  while (!failed_ && !bytes.empty()) {
    if (after_cr_ && bytes.front() == '\n') {  // CR LF is one end of a line
      bytes.remove_prefix(1);
      after_cr_ = false;
      continue;
    }
    after_cr_ = false;
    const size_t end = bytes.find_first_of("\r\n");
    line_ += bytes.substr(0, end);
    if (line_.size() + data_.size() > kMaxEventBytes) failed_ = true;
    if (failed_ || end == std::string_view::npos) break;
    after_cr_ = bytes[end] == '\r';
    bytes.remove_prefix(end + 1);
    if (!end_line(on_data)) failed_ = true;
    line_.clear();
  }
  return !failed_;
}

bool SseParser::end_line(const std::function<bool(std::string_view)>& on_data) {
  if (line_.empty()) {
    if (!has_data_) return true;
    has_data_ = false;
    const std::string data = std::move(data_);
    data_.clear();
    return on_data(data);
  }
  const std::string_view line = line_;
  const size_t colon = std::min(line.find(':'), line.size());
  if (line.substr(0, colon) != "data") return true;
  std::string_view value = line.substr(std::min(colon + 1, line.size()));
  if (value.starts_with(' ')) value.remove_prefix(1);
  if (has_data_) data_ += '\n';
  data_ += value;
  has_data_ = true;
  return true;
}

}  // namespace comet::client
