#!/usr/bin/env python3
"""Compares Comet's tokenizer with Python's `tokenizers` on random texts, random bytes, random ids,
every code point and whole files; stops at the first difference.

usage: pip install tokenizers
       tools/compare_tokenizers.py PROBE TOKENIZER [--random N] [--seed S] [--tokens N] [FILE...]
PROBE is the program of tools/tokenizer_probe.cpp (`ninja tokenizer_probe`). TOKENIZER is a
tokenizer.json, the name of a family of tools/tokenizer_families.py, or `families` for all of them.
The special-token rules (lstrip, rstrip, single_word, normalized) are compared with a copy of the
tokenizer that has such tokens added. Files default to models/demo/heldout.txt.
"""

import argparse
import itertools
import json
import pathlib
import random
import re
import struct
import subprocess
import sys
import tempfile

from tokenizers import AddedToken, Tokenizer

import tokenizer_corpus
import tokenizer_families

ROOT = pathlib.Path(__file__).resolve().parent.parent
BATCH = 20_000
SEPARATOR = "\ue000"


class Comparison:
    def __init__(self, probe, tokenizer_json, folder):
        path = folder / "tokenizer.json"
        path.write_text(tokenizer_json)
        self.python = Tokenizer.from_str(tokenizer_json)
        self.command = [str(probe), str(path)]
        self.num_compared = 0
        self.num_tokens = 0

        spec = json.loads(tokenizer_json)
        self.special_ids = {token["id"] for token in spec["added_tokens"] if token["special"]}
        self.byte_tokens = {}
        if "ByteFallback" in json.dumps(spec["decoder"]):
            self.byte_tokens = {i: int(t[3:5], 16) for t, i in spec["model"]["vocab"].items() if re.fullmatch("<0x[0-9A-F]{2}>", t)}
        self.streaming = Tokenizer.from_str(tokenizer_json)
        self.streaming.add_tokens([AddedToken(SEPARATOR, normalized=False)])

    def streamed(self, ids):
        """What a stream of `ids` gives: Python's text, but of a run of byte tokens that is no UTF-8
        the characters before its first bad byte are a run of their own."""
        separated, known = [], [i for i in ids if self.python.id_to_token(i) is not None]
        for is_byte, group in itertools.groupby(known, key=lambda i: i in self.byte_tokens):
            run = list(group)
            if is_byte:
                try:
                    bytes(self.byte_tokens[i] for i in run).decode()
                except UnicodeDecodeError as error:
                    if error.start > 0:
                        run.insert(error.start, self.streaming.token_to_id(SEPARATOR))
            separated += run
        return self.streaming.decode(separated, skip_special_tokens=False).replace(SEPARATOR, "")

    def expected(self, kind, payload):
        if kind < 4:
            self.python.encode_special_tokens = not kind & 2
            ids = self.python.encode(payload.decode(errors="replace"), add_special_tokens=bool(kind & 1)).ids
            self.num_tokens += len(ids)
            return struct.pack(f"<I{len(ids)}i", len(ids), *ids)
        ids = struct.unpack(f"<{len(payload) // 4}i", payload)
        if kind == 5:  # the package forgets that a token is special where its normalizer changes it
            ids = [i for i in ids if i not in self.special_ids]
        streams = kind == 6 and self.byte_tokens
        text = self.streamed(ids) if streams else self.python.decode(ids, skip_special_tokens=kind == 5)
        text = text.encode()
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


def specs(name, num_tokens):
    """(label, tokenizer.json) of what the command line names."""
    if name == "families":
        return [(family, json.dumps(tokenizer_families.make(family, num_tokens))) for family in tokenizer_families.FAMILIES]
    if name in tokenizer_families.FAMILIES:
        return [(name, json.dumps(tokenizer_families.make(name, num_tokens)))]
    return [(name, pathlib.Path(name).read_text())]


def compare(label, spec, args, folder):
    rng = random.Random(args.seed)
    tokenizer_corpus.SPECIALS[:] = tokenizer_corpus.COMMON_SPECIALS + tokenizer_families.special_texts(json.loads(spec))
    comparison = Comparison(args.probe, spec, folder)
    comparison.run([(kind, text.encode()) for text in tokenizer_corpus.FIXED for kind in range(4)])
    if "added" not in label:
        comparison.run(every_code_point())
    comparison.run(random_requests(rng, args.random, comparison.python.get_vocab_size(), "added" in label))
    comparison.run([(kind, path.read_bytes()) for path in args.files for kind in (3, 1)])
    print(f"{label}: {comparison.num_compared} requests equal, {comparison.num_tokens} tokens encoded", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("probe", type=pathlib.Path)
    parser.add_argument("tokenizer")
    parser.add_argument("files", nargs="*", type=pathlib.Path, default=[ROOT / "models/demo/heldout.txt"])
    parser.add_argument("--random", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=2000, help="trained tokens of a family")
    args = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as name:
        for label, spec in specs(args.tokenizer, args.tokens):
            compare(label, spec, args, pathlib.Path(name))
            compare(f"{label} with tokens added", tokenizer_corpus.with_strippers(spec), args, pathlib.Path(name))


if __name__ == "__main__":
    main()
