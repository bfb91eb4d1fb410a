#!/usr/bin/env python3
"""Compares Comet's tokenizer with Python's `tokenizers` on random texts, random bytes, random ids
and whole files; stops at the first difference.

usage: pip install tokenizers
       tools/compare_tokenizers.py BUILD_DIR TOKENIZER_JSON [--random N] [--seed S] [FILE...]
BUILD_DIR holds libcomet_text.a and libcomet_base.a. The special-token rules (lstrip, rstrip,
single_word, normalized) are compared with a copy of the tokenizer that has such tokens added.
"""

import argparse
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer

import tokenizer_corpus

ROOT = pathlib.Path(__file__).resolve().parent.parent
BATCH = 20_000


def compile_probe(build, folder):
    probe = folder / "probe"
    subprocess.run(["g++", "-std=c++20", "-O2", "-DFMT_HEADER_ONLY", f"-I{ROOT}/src", str(ROOT / "tools/tokenizer_probe.cpp"), "-o", str(probe),
                    str(build / "libcomet_text.a"), str(build / "libcomet_base.a"), "-lpthread"], check=True)
    return probe


class Comparison:
    def __init__(self, probe, tokenizer_json, folder):
        path = folder / "tokenizer.json"
        path.write_text(tokenizer_json)
        self.python = Tokenizer.from_str(tokenizer_json)
        self.command = [str(probe), str(path)]
        self.num_compared = 0
        self.num_tokens = 0

    def expected(self, kind, payload):
        if kind < 4:
            self.python.encode_special_tokens = not kind & 2
            ids = self.python.encode(payload.decode(errors="replace"), add_special_tokens=bool(kind & 1)).ids
            self.num_tokens += len(ids)
            return struct.pack(f"<I{len(ids)}i", len(ids), *ids)
        ids = struct.unpack(f"<{len(payload) // 4}i", payload)
        text = self.python.decode(ids, skip_special_tokens=kind == 5).encode()
        return struct.pack("<I", len(text)) + text

    def run(self, requests):
        for begin in range(0, len(requests), BATCH):
            batch = requests[begin : begin + BATCH]
            data = b"".join(struct.pack("<II", kind, len(payload)) + payload for kind, payload in batch)
            got = subprocess.run(self.command, input=data, stdout=subprocess.PIPE, check=True).stdout
            at = 0
            for kind, payload in batch:
                want = self.expected(kind, payload)
                if got[at : at + len(want)] != want:
                    sys.exit(f"DIFFERENT: kind {kind}, payload {payload!r}\n  want {want!r}\n  got  {got[at : at + len(want) + 40]!r}")
                at += len(want)
            assert at == len(got)
        self.num_compared += len(requests)


def random_requests(rng, count, vocab_size, spiced):
    requests = []
    for i in range(count):
        kind = rng.choice([0, 1, 2, 2, 3, 3, 3, 4, 5, 6])
        if kind >= 4:
            ids = tokenizer_corpus.random_ids(rng, vocab_size + 3)
            requests.append((kind, struct.pack(f"<{len(ids)}i", *ids)))
        elif rng.random() < 0.15:
            requests.append((kind, tokenizer_corpus.random_bytes(rng)))
        else:
            text = tokenizer_corpus.random_text(rng)
            text = tokenizer_corpus.spiced(rng, text) if spiced else text
            requests.append((kind, text.encode()))
    return requests


def every_code_point():
    """Each code point beside letters, digits, blanks, apostrophes and punctuation; 32 in a text."""
    shapes = [f"a{c}1 {c}b'{c}!{c}\n" for c in map(chr, range(0x110000)) if not 0xD800 <= ord(c) <= 0xDFFF]
    return [(2, "".join(shapes[i : i + 32]).encode()) for i in range(0, len(shapes), 32)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("tokenizer", type=pathlib.Path)
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    parser.add_argument("--random", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_intermixed_args()
    tokenizer_json = args.tokenizer.read_text()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        probe = compile_probe(args.build, folder)
        for label, spec in (("as it is", tokenizer_json), ("with tokens added", tokenizer_corpus.with_strippers(tokenizer_json))):
            comparison = Comparison(probe, spec, folder)
            rng = random.Random(args.seed)
            vocab_size = comparison.python.get_vocab_size()
            comparison.run([(kind, text.encode()) for text in tokenizer_corpus.FIXED for kind in range(4)])
            comparison.run(every_code_point())
            comparison.run(random_requests(rng, args.random, vocab_size, label != "as it is"))
            comparison.run([(3, path.read_bytes()) for path in args.files])
            print(f"{label}: {comparison.num_compared} requests equal, {comparison.num_tokens} tokens encoded")


if __name__ == "__main__":
    main()
