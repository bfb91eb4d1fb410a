// Letter case and printability as Python's str methods have them. The tables are made by
// tools/make_case_tables.py. Caller: characters.cpp of this folder.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace comet::text::jinja {

/// The code points first, first + stride, …, last all move by `delta`.
struct CaseRun {
  uint32_t first;
  uint32_t last;
  uint32_t stride;
  int32_t delta;
};

/// A code point that becomes several: ß → SS.
struct SpecialCase {
  uint32_t code_point;
  std::string_view text;
};

struct CaseTable {
  std::span<const CaseRun> runs;  // by `first`, disjoint
  std::span<const SpecialCase> special;
};

CaseTable upper_table();
CaseTable lower_table();
/// Only where title case differs from upper case.
CaseTable title_table();
/// Code points where being printable begins and ends, in turn; the first begins.
std::span<const uint32_t> printable_bounds();

}  // namespace comet::text::jinja
