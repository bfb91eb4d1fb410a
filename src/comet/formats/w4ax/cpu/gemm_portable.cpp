// The simplest correct w4ax kernel: the row that every other one is measured against.
#include "comet/formats/w4ax/cpu/gemm_body.h"
#include "comet/tensor/dtype.h"

namespace comet::formats::w4ax::cpu {
namespace {

struct Portable {
  static constexpr int64_t kPanelUnits = 1;
  static constexpr int64_t kPanelBlockTokens = 4;

  struct Ints {
    int32_t lane[16];
  };
  struct Floats {
    float lane[16];
  };

  template <typename Out, typename Lane>
  static Out each(Lane&& lane) {
    Out out;
    for (int i = 0; i < 16; ++i) out.lane[i] = lane(i);
    return out;
  }
  static Ints load(const int32_t* p) {
    return each<Ints>([=](int i) { return p[i]; });
  }
  static Floats load(const float* p) {
    return each<Floats>([=](int i) { return p[i]; });
  }
  static void store(int32_t* p, const Ints& v) { memcpy(p, v.lane, sizeof(v)); }
  static void store(float* p, const Floats& v) { memcpy(p, v.lane, sizeof(v)); }
  static Ints splat(int32_t x) {
    return each<Ints>([=](int) { return x; });
  }
  static Floats splat(float x) {
    return each<Floats>([=](int) { return x; });
  }
  // Integer sums wrap: group_offset of a hostile file could overflow int32.
  static int32_t wrap(uint32_t x) { return static_cast<int32_t>(x); }
  static Ints add(const Ints& a, const Ints& b) {
    return each<Ints>([&](int i) { return wrap(uint32_t(a.lane[i]) + uint32_t(b.lane[i])); });
  }
  static Ints sub(const Ints& a, const Ints& b) {
    return each<Ints>([&](int i) { return wrap(uint32_t(a.lane[i]) - uint32_t(b.lane[i])); });
  }
  static Ints mul(const Ints& a, const Ints& b) {
    return each<Ints>([&](int i) { return wrap(uint32_t(a.lane[i]) * uint32_t(b.lane[i])); });
  }
  static Floats add(const Floats& a, const Floats& b) {
    return each<Floats>([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  static Floats mul(const Floats& a, const Floats& b) {
    return each<Floats>([&](int i) { return a.lane[i] * b.lane[i]; });
  }
  static Floats fma(const Floats& a, const Floats& b, const Floats& c) {
    return each<Floats>([&](int i) { return __builtin_fmaf(a.lane[i], b.lane[i], c.lane[i]); });
  }
  static Floats to_float(const Ints& v) {
    return each<Floats>([&](int i) { return static_cast<float>(v.lane[i]); });
  }
  static Floats as_floats(const Ints& v) {
    Floats out;
    memcpy(&out, &v, sizeof(out));
    return out;
  }
  static Ints as_ints(const Floats& v) {
    Ints out;
    memcpy(&out, &v, sizeof(out));
    return out;
  }
  static Floats from_halves(const uint16_t* p) {
    return each<Floats>([=](int i) { return to_float_half(p[i]); });
  }
  static float to_float_half(uint16_t bits) { return comet::to_float(Float16{bits}); }
  static Ints from_bytes(const uint8_t* p) {
    return each<Ints>([=](int i) { return int32_t{p[i]}; });
  }
  static Ints from_bytes(const int8_t* p) {
    return each<Ints>([=](int i) { return int32_t{p[i]}; });
  }

  /// Σ u·q of the line of rows (g, g + 8): 64 bytes, low nibbles × x, high nibbles × (x + 64).
  static void line_sums(const uint8_t* line, uint8_t mask, const int8_t* x, int32_t& sum,
                        int32_t& sum_upper) {
    for (int word = 0; word < 16; ++word) {
      int32_t dot = 0;
      for (int j = 4 * word; j < 4 * word + 4; ++j) {
        dot += ((line[j] & 15) ^ mask) * x[j] + ((line[j] >> 4) ^ mask) * x[64 + j];
      }
      ((word & 1) != 0 ? sum_upper : sum) += dot;
    }
  }

  template <int T>
  static void block_sums(const uint8_t* unit, uint8_t mask, const int8_t* const* x, Ints* sums) {
    for (int t = 0; t < T; ++t) {
      int32_t* row = sums[t].lane;
      for (int g = 0; g < 8; ++g) {
        row[g] = 0;
        row[g + 8] = 0;
        line_sums(unit + 64 * g, mask, x[t], row[g], row[g + 8]);
        line_sums(unit + kTileBytes / 2 + 64 * g, mask, x[t] + 128, row[g], row[g + 8]);
      }
    }
  }

  static void decode_unit(const uint8_t* unit, uint8_t mask, uint8_t* panel) {
    for (int g = 0; g < 8; ++g) {
      for (int word = 0; word < 16; ++word) {
        const int quad = word % 4 / 2 * 4 + word / 4;  // 16·(r >> 1) + 4t channels
        const int row = g + (word & 1) * 8;
        for (int j = 0; j < 4; ++j) {
          const uint8_t byte = unit[64 * g + 4 * word + j];
          panel[quad * 64 + row * 4 + j] = static_cast<uint8_t>((byte & 15) ^ mask);
          panel[(quad + 8) * 64 + row * 4 + j] = static_cast<uint8_t>((byte >> 4) ^ mask);
        }
      }
    }
  }

  static void panel_sums(const uint8_t* panel, int64_t quads, const int8_t* x, int64_t x_stride,
                         int64_t count, int32_t (*sums)[kPanelBlockTokens][16]) {
    for (int64_t t = 0; t < count; ++t) {
      int32_t* sum = sums[0][t];
      memset(sum, 0, sizeof(int32_t) * 16);
      for (int64_t quad = 0; quad < quads; ++quad) {
        const uint8_t* w = panel + quad * 64;
        const int8_t* xq = x + t * x_stride + quad * 4;
        for (int row = 0; row < 16; ++row) {
          sum[row] += w[row * 4] * xq[0] + w[row * 4 + 1] * xq[1] + w[row * 4 + 2] * xq[2] +
                      w[row * 4 + 3] * xq[3];
        }
      }
    }
  }
};

}  // namespace

const GemmIsa kPortableIsa{expand_codes, few_tokens<Portable>, many_tokens<Portable>};

}  // namespace comet::formats::w4ax::cpu
