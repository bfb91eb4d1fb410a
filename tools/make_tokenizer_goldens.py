#!/usr/bin/env python3
"""Writes tests/data/tokenizer/demo_goldens.json: what Python's `tokenizers` makes of hard texts with
the tokenizer of models/demo. The texts come from tools/tokenizer_corpus.py.

usage: pip install tokenizers; tools/make_tokenizer_goldens.py
"""

import json
import pathlib
import random

import tokenizers
from tokenizers import Tokenizer

import tokenizer_corpus

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "tests/data/tokenizer/demo_goldens.json"
ADD_SPECIAL, PARSE_SPECIAL = 1, 2
NUM_TEXTS, NUM_BYTES, NUM_IDS, NUM_SPICED = 600, 150, 150, 200


def encode(tokenizer, text, flags):
    tokenizer.encode_special_tokens = not flags & PARSE_SPECIAL
    return tokenizer.encode(text, add_special_tokens=bool(flags & ADD_SPECIAL)).ids


def main():
    rng = random.Random(4)
    spec = (ROOT / "models/demo/tokenizer.json").read_text()
    plain, stripping = Tokenizer.from_str(spec), Tokenizer.from_str(tokenizer_corpus.with_strippers(spec))
    texts = [(3, t) for t in tokenizer_corpus.FIXED]
    texts += [(rng.choice([0, 1, 2, 3, 3, 3]), tokenizer_corpus.random_text(rng)) for _ in range(NUM_TEXTS)]
    spiced = [(rng.choice([0, 3, 3]), tokenizer_corpus.spiced(rng, tokenizer_corpus.random_text(rng, 5))) for _ in range(NUM_SPICED)]
    data = [tokenizer_corpus.random_bytes(rng) for _ in range(NUM_BYTES)]
    ids = [tokenizer_corpus.random_ids(rng, plain.get_vocab_size() + 3) for _ in range(NUM_IDS)]
    old, patched = json.loads(spec), json.loads(tokenizer_corpus.with_strippers(spec))
    sections = {
        "encode": [[flags, t, encode(plain, t, flags)] for flags, t in texts],
        "encode_bytes": [[d.hex(), encode(plain, d.decode(errors="replace"), 3)] for d in data],
        "decode": [[i, plain.decode(i, skip_special_tokens=False), plain.decode(i, skip_special_tokens=True)] for i in ids],
        "added_tokens": patched["added_tokens"][len(old["added_tokens"]) :],
        "encode_with_added_tokens": [[flags, t, encode(stripping, t, flags)] for flags, t in spiced],
    }
    lines = [f'{{"made_by": "tools/make_tokenizer_goldens.py with tokenizers {tokenizers.__version__}"']
    for name, rows in sections.items():
        body = ",\n".join(json.dumps(row, ensure_ascii=True, separators=(",", ":")) for row in rows)
        lines.append(f'"{name}": [\n{body}]')
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(",\n".join(lines) + "}\n")
    print(f"{OUTPUT}: {OUTPUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
