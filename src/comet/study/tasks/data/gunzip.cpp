#include "comet/study/tasks/data/gunzip.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <vector>

namespace comet::study {
namespace {

constexpr int kMaxBits = 15;
constexpr size_t kMaxSymbols = 288;

/// What is wrong with the stream; caught in gunzip().
struct BadStream : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class BitReader {
 public:
  explicit BitReader(std::string_view bytes) : bytes_(bytes) {}

  /// 0 ≤ count ≤ 16, least significant bit first.
  uint32_t bits(int count) {
    while (num_held_ < count) {
      if (at_ == bytes_.size()) throw BadStream("it ends too early");
      held_ |= static_cast<uint32_t>(static_cast<uint8_t>(bytes_[at_++])) << num_held_;
      num_held_ += 8;
    }
    const uint32_t value = held_ & ((1U << count) - 1);
    held_ >>= count;
    num_held_ -= count;
    return value;
  }
  /// Drops what is left of the present byte.
  void align() {
    held_ = 0;
    num_held_ = 0;
  }
  uint32_t number(int num_bytes) {
    uint32_t value = 0;
    for (int i = 0; i < num_bytes; ++i) value |= bits(8) << (8 * i);
    return value;
  }

 private:
  std::string_view bytes_;
  size_t at_ = 0;
  uint32_t held_ = 0;
  int num_held_ = 0;
};

/// Canonical Huffman code (RFC 1951 §3.2.2): symbols in order of their code, counts per length.
class Huffman {
 public:
  explicit Huffman(std::span<const uint8_t> lengths) {
    for (const uint8_t length : lengths) ++counts_[length];
    counts_[0] = 0;
    int left = 1;
    for (int bits = 1; bits <= kMaxBits; ++bits) {
      left = 2 * left - counts_[bits];
      if (left < 0) throw BadStream("a Huffman code has too many words");
    }
    std::array<int, kMaxBits + 2> first{};
    for (int bits = 1; bits <= kMaxBits; ++bits) first[bits + 1] = first[bits] + counts_[bits];
    for (size_t i = 0; i < lengths.size(); ++i) {
      if (lengths[i] != 0) symbols_[first[lengths[i]]++] = static_cast<uint16_t>(i);
    }
  }

  uint32_t decode(BitReader& in) const {
    int code = 0;
    int first = 0;
    int index = 0;
    for (int bits = 1; bits <= kMaxBits; ++bits) {
      code |= static_cast<int>(in.bits(1));
      if (code - first < counts_[bits]) return symbols_[index + code - first];
      index += counts_[bits];
      first = (first + counts_[bits]) << 1;
      code <<= 1;
    }
    throw BadStream("a code word that does not exist");
  }

 private:
  std::array<int, kMaxBits + 1> counts_{};
  std::array<uint16_t, kMaxSymbols> symbols_{};
};

struct Codes {
  Huffman literals;
  Huffman distances;
};

Codes fixed_codes() {
  std::array<uint8_t, kMaxSymbols> literals{};
  for (size_t i = 0; i < literals.size(); ++i)
    literals[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
  std::array<uint8_t, 30> distances{};
  distances.fill(5);
  return {Huffman(literals), Huffman(distances)};
}

/// RFC 1951 §3.2.7.
Codes read_codes(BitReader& in) {
  constexpr std::array<uint8_t, 19> kOrder{16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
                                           11, 4,  12, 3, 13, 2, 14, 1, 15};
  const uint32_t num_literals = in.bits(5) + 257;
  const uint32_t num_distances = in.bits(5) + 1;
  const uint32_t num_lengths = in.bits(4) + 4;
  if (num_literals > 286 || num_distances > 30) throw BadStream("a Huffman table is too large");
  std::array<uint8_t, 19> code_lengths{};
  for (uint32_t i = 0; i < num_lengths; ++i)
    code_lengths[kOrder[i]] = static_cast<uint8_t>(in.bits(3));
  const Huffman code(code_lengths);
  std::vector<uint8_t> lengths;
  while (lengths.size() < num_literals + num_distances) {
    const uint32_t symbol = code.decode(in);
    if (symbol < 16) {
      lengths.push_back(static_cast<uint8_t>(symbol));
      continue;
    }
    if (symbol == 16 && lengths.empty()) throw BadStream("a Huffman table repeats nothing");
    const uint8_t repeated = symbol == 16 ? lengths.back() : 0;
    const uint32_t count = symbol == 16   ? 3 + in.bits(2)
                           : symbol == 17 ? 3 + in.bits(3)
                                          : 11 + in.bits(7);
    lengths.insert(lengths.end(), count, repeated);
  }
  if (lengths.size() != num_literals + num_distances)
    throw BadStream("a Huffman table is too long");
  const std::span<const uint8_t> all(lengths);
  return {Huffman(all.first(num_literals)), Huffman(all.subspan(num_literals))};
}

void inflate_block(BitReader& in, const Codes& codes, std::string& out, size_t max_bytes) {
  constexpr std::array<uint16_t, 29> kLengths{3,  4,  5,  6,   7,   8,   9,   10,  11, 13,
                                              15, 17, 19, 23,  27,  31,  35,  43,  51, 59,
                                              67, 83, 99, 115, 131, 163, 195, 227, 258};
  constexpr std::array<uint8_t, 29> kLengthBits{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                                2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
  constexpr std::array<uint16_t, 30> kDistances{
      1,   2,   3,   4,   5,   7,    9,    13,   17,   25,   33,   49,   65,    97,    129,
      193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
  while (true) {
    const uint32_t symbol = codes.literals.decode(in);
    if (symbol == 256) return;
    if (out.size() >= max_bytes) throw BadStream("its content is too large");
    if (symbol < 256) {
      out += static_cast<char>(symbol);
      continue;
    }
    if (symbol > 285) throw BadStream("a length that does not exist");
    const size_t length = kLengths[symbol - 257] + in.bits(kLengthBits[symbol - 257]);
    const uint32_t code = codes.distances.decode(in);
    if (code > 29) throw BadStream("a distance that does not exist");
    const int extra_bits = code < 4 ? 0 : static_cast<int>(code / 2 - 1);
    const size_t distance = kDistances[code] + in.bits(extra_bits);
    if (distance > out.size()) throw BadStream("a distance that points before its start");
    for (size_t i = 0; i < length; ++i) out += out[out.size() - distance];
  }
}

void inflate(BitReader& in, std::string& out, size_t max_bytes) {
  bool last = false;
  while (!last) {
    last = in.bits(1) != 0;
    const uint32_t type = in.bits(2);
    if (type == 0) {
      in.align();
      const uint32_t length = in.number(2);
      if (in.number(2) != (length ^ 0xFFFFU)) throw BadStream("a stored block's length is wrong");
      if (out.size() + length > max_bytes) throw BadStream("its content is too large");
      for (uint32_t i = 0; i < length; ++i) out += static_cast<char>(in.bits(8));
    } else if (type == 1) {
      inflate_block(in, fixed_codes(), out, max_bytes);
    } else if (type == 2) {
      inflate_block(in, read_codes(in), out, max_bytes);
    } else {
      throw BadStream("a block of a type that does not exist");
    }
  }
  in.align();
}

/// RFC 1952 §2.3: what stands before the compressed data.
void skip_header(BitReader& in) {
  if (in.number(2) != 0x8B1F || in.number(1) != 8) throw BadStream("it is not gzip");
  const uint32_t flags = in.number(1);
  in.number(4);
  in.number(2);
  if ((flags & 4U) != 0) {
    for (uint32_t left = in.number(2); left > 0; --left) in.number(1);
  }
  for (const uint32_t flag : {8U, 16U}) {  // file name, comment: up to a zero byte
    if ((flags & flag) == 0) continue;
    while (in.number(1) != 0) {}
  }
  if ((flags & 2U) != 0) in.number(2);
}

uint32_t crc32(std::string_view bytes) {
  uint32_t crc = ~0U;
  for (const char c : bytes) {
    crc ^= static_cast<uint8_t>(c);
    for (int i = 0; i < 8; ++i) crc = (crc >> 1) ^ ((crc & 1U) != 0 ? 0xEDB88320U : 0U);
  }
  return ~crc;
}

}  // namespace

Result<std::string> gunzip(std::string_view bytes, const std::string& source, size_t max_bytes) {
  try {
    BitReader in(bytes);
    std::string out;
    skip_header(in);
    inflate(in, out, max_bytes);
    if (in.number(4) != crc32(out)) throw BadStream("its checksum does not fit its content");
    if (in.number(4) != static_cast<uint32_t>(out.size())) throw BadStream("its length is wrong");
    return out;
  } catch (const BadStream& problem) {
    return make_error(ErrorCode::kCorrupt, "{}: cannot be decompressed: {}", source,
                      problem.what());
  }
}

}  // namespace comet::study
