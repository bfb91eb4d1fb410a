#!/usr/bin/env python3
"""Writes src/comet/text/unicode/unicode_tables.cpp from the behaviour of the installed `tokenizers`.

The tokenizer must split text exactly as that package does, so its regex engines are asked about
every code point instead of trusting any one version of the Unicode tables.

The two libraries that the text room links know other versions of Unicode than the package: code
points on which they would differ are listed too (late_starters, substitutes).

usage: pip install tokenizers; apt-get install libutf8proc-dev; a Python with Unicode 14 (3.11),
       which is what Debian 12's PCRE2 has; tools/make_unicode_tables.py
"""

import ctypes
import pathlib
import unicodedata

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

OUTPUT = pathlib.Path(__file__).resolve().parent.parent / "src/comet/text/unicode/unicode_tables.cpp"
LETTER, NUMBER, SPACE, WORD, NUMERIC, PUNCTUATION = 1, 2, 4, 8, 16, 32  # as in unicode_tables.h
PCRE2_UNICODE = "14.0.0"
CONTRACTIONS = ["s", "t", "re", "ve", "m", "ll", "d"]
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
ALL_TEXT = "".join(map(chr, CODE_POINTS))
ENTRIES_PER_LINE = 10


def matches(pattern, text):
    """The (text, (begin, end)) of every match of `pattern`."""
    return pre_tokenizers.Split(Regex(pattern), "removed", invert=True).pre_tokenize_str(text)


def matching_code_points(pattern):
    found = {ord(piece) for piece, _ in matches(pattern, ALL_TEXT) if len(piece) == 1}
    return found


def word_and_space():
    r"""\w and \s of the engine that reads added tokens (single_word, lstrip, rstrip); pre-tokenizer
    Whitespace is its `\w+|[^\w\s]+`, so 'ac' stays one piece where c is \w and c vanishes where it
    is \s."""
    text = "".join("a" + chr(c) + "\n" for c in CODE_POINTS)
    pieces = pre_tokenizers.Whitespace().pre_tokenize_str(text)
    num_pieces, joined = [0] * len(CODE_POINTS), [False] * len(CODE_POINTS)
    for piece, (begin, _) in pieces:
        num_pieces[begin // 3] += 1
        joined[begin // 3] |= len(piece) == 2
    word = {c for c, yes in zip(CODE_POINTS, joined) if yes}
    space = {c for c, n, yes in zip(CODE_POINTS, num_pieces, joined) if n == 1 and not yes}
    return word, space


def isolated_by(pre_tokenizer):
    """The code points that a pre-tokenizer cuts out of the letters around them."""
    pieces = pre_tokenizer.pre_tokenize_str("".join(f"a{chr(c)}b" for c in CODE_POINTS))
    return {ord(piece) for piece, (begin, _) in pieces if begin % 3 == 1}


def late_starters():
    """What utf8proc reorders or composes under NFC and the package, with older Unicode, leaves alone."""
    library = ctypes.CDLL("libutf8proc.so.2")
    library.utf8proc_NFC.restype, library.utf8proc_NFC.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    libc = ctypes.CDLL(None)
    libc.free.argtypes = [ctypes.c_void_p]
    package = normalizers.NFC()

    def differs(text):
        pointer = library.utf8proc_NFC(text.encode())
        other = ctypes.string_at(pointer).decode()
        libc.free(pointer)
        return package.normalize_str(text) != other

    marks = "\u0334\u0323\u0301\u0345\u093c\u05b0"
    late = {c for c in CODE_POINTS[1:] if any(differs(f"a{chr(c)}{m}") or differs(f"a{m}{chr(c)}") for m in marks)}
    for c in CODE_POINTS:
        parts = unicodedata.decomposition(chr(c)).split()
        if len(parts) == 2 and parts[0][0] != "<" and differs("".join(chr(int(x, 16)) for x in parts)):
            late |= {c, int(parts[1], 16)}
    assert not any(differs(chr(c)) for c in CODE_POINTS[1:])
    return sorted(late)


def substitutes():
    """[(first, last, stand-in)]: runs of code points that PCRE2's older Unicode does not know, and a
    known one of the same category, script (Han or not), \\w and UTF-8 length for each."""
    assert unicodedata.unidata_version == PCRE2_UNICODE, unicodedata.unidata_version
    categories = sorted({unicodedata.category(chr(c)) for c in CODE_POINTS} - {"Cn", "Cs"})
    now = {c: category for category in categories for c in matching_code_points(rf"\p{{{category}}}")}
    han, word = matching_code_points(r"\p{Han}"), matching_code_points(r"\w")
    known, found = {}, []
    for c in CODE_POINTS:
        key = (now.get(c, "Cn"), c in han, c in word, len(chr(c).encode()))
        if unicodedata.category(chr(c)) == key[0]:
            known.setdefault(key, c)
    for c in CODE_POINTS:
        category = now.get(c, "Cn")
        if category == unicodedata.category(chr(c)):
            continue
        stand_in = known[category, c in han, c in word, len(chr(c).encode())]
        if found and found[-1][1] == c - 1 and found[-1][2] == stand_in:
            found[-1] = (found[-1][0], c, stand_in)
        else:
            found.append((c, c, stand_in))
    return found


def contraction_folds():
    """{code point outside ASCII: the ASCII letter it equals in (?i:'s|'t|'re|'ve|'m|'ll|'d)}."""
    letters = sorted(set("".join(CONTRACTIONS)))
    folds = {}
    for letter in letters:
        for c in matching_code_points(f"(?i:{letter})"):
            assert c >= 0x80 or chr(c).lower() == letter, (letter, chr(c))
            if c >= 0x80:
                folds[c] = letter
    check_contractions(folds)
    return folds


def check_contractions(folds):
    """The whole group matches exactly what letter-by-letter folding says: no code point stands for
    two letters, and none for the apostrophe."""
    group = "(?i:" + "|".join("'" + c for c in CONTRACTIONS) + ")"

    def fold(text):
        return "".join(folds.get(ord(c), c.lower() if ord(c) < 0x80 else c) for c in text)

    def expected(text):
        for body in CONTRACTIONS:
            if text[0] == "'" and fold(text[1 : 1 + len(body)]) == body:
                return text[: 1 + len(body)]
        return None

    shapes = ["'%sz", "%ssz", "'r%sz", "'v%sz", "'l%sz", "'%sez", "'%slz", "%slz", "%sz"]
    for shape in shapes:
        lines = [shape % chr(c) for c in CODE_POINTS if chr(c) not in "\n'"]
        text = "\n".join(lines)
        got = {begin: piece for piece, (begin, _) in matches(group, text)}
        at = 0
        for line in lines:
            assert got.pop(at, None) == expected(line), (shape, line)
            at += len(line) + 1
        assert not got, (shape, got)


def runs(classes):
    """[(first code point, class)] of maximal runs of equal class."""
    found = []
    for c in range(0x110000):
        if not found or found[-1][1] != classes[c]:
            found.append((c, classes[c]))
    return found


def table(entries):
    lines = []
    for i in range(0, len(entries), ENTRIES_PER_LINE):
        lines.append("    " + " ".join(e + "," for e in entries[i : i + ENTRIES_PER_LINE]))
    return "\n".join(lines)


def main():
    letters = matching_code_points(r"\p{L}")
    numbers = matching_code_points(r"\p{N}")
    spaces = matching_code_points(r"\s")
    words, other_spaces = word_and_space()
    assert spaces == other_spaces, "the package's two regex engines disagree on white space"
    numeric = isolated_by(pre_tokenizers.Digits(True))
    punctuation = isolated_by(pre_tokenizers.Punctuation("isolated"))
    classes = [0] * 0x110000
    for members, bit in ((letters, LETTER), (numbers, NUMBER), (spaces, SPACE), (words, WORD),
                         (numeric, NUMERIC), (punctuation, PUNCTUATION)):
        for c in members:
            classes[c] |= bit
    class_runs = runs(classes)
    folds = sorted(contraction_folds().items())
    late, stand_ins = late_starters(), substitutes()
    OUTPUT.write_text(
        f"""// Generated by tools/make_unicode_tables.py from tokenizers {tokenizers.__version__}. Do not edit.
#include "comet/text/unicode/unicode_tables.h"

namespace comet::text {{
namespace {{

// clang-format off
constexpr uint8_t kAsciiClasses[kNumAscii] = {{
{table([str(c) for c in classes[:128]])}
}};

constexpr uint32_t kClassRuns[] = {{
{table([hex(first << 8 | cls) for first, cls in class_runs])}
}};

constexpr ContractionFold kContractionFolds[] = {{
{table([f"{{{hex(c)}, '{letter}'}}" for c, letter in folds])}
}};

constexpr uint32_t kLateStarters[] = {{
{table([hex(c) for c in late])}
}};

constexpr Substitute kSubstitutes[] = {{
{table([f"{{{hex(a)}, {hex(b)}, {hex(c)}}}" for a, b, c in stand_ins])}
}};
// clang-format on

}}  // namespace

std::span<const uint8_t, kNumAscii> ascii_classes() {{ return kAsciiClasses; }}
std::span<const uint32_t> class_runs() {{ return kClassRuns; }}
std::span<const ContractionFold> contraction_folds() {{ return kContractionFolds; }}
std::span<const uint32_t> late_starters() {{ return kLateStarters; }}
std::span<const Substitute> substitutes() {{ return kSubstitutes; }}

}}  // namespace comet::text
"""
    )
    print(f"{OUTPUT}: {len(class_runs)} runs, {len(folds)} folds, {len(late)} late starters, {len(stand_ins)} substitutes, {OUTPUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
