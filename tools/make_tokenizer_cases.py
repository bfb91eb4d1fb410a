#!/usr/bin/env python3
"""Writes tests/data/tokenizer/cases/FAMILY.json: what Python's `tokenizers` makes of hard texts with
a small tokenizer of each family of tools/tokenizer_families.py. A case of a model of one's own is a
further file in that folder:

usage: pip install tokenizers
       tools/make_tokenizer_cases.py                           every family
       tools/make_tokenizer_cases.py NAME TOKENIZER_JSON       one more case, NAME.json
"""

import json
import pathlib
import random
import sys

import tokenizers
from tokenizers import Tokenizer

import tokenizer_corpus
import tokenizer_families

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests/data/tokenizer/cases"
NUM_TOKENS, NUM_TEXTS, NUM_PARTS, NUM_IDS = 330, 45, 5, 30
MAX_FIXED_BYTES = 70


def encode(tokenizer, text, flags):
    tokenizer.encode_special_tokens = not flags & 2
    return tokenizer.encode(text, add_special_tokens=bool(flags & 1)).ids


def write_case(name, spec):
    rng = random.Random(name)
    tokenizer_corpus.SPECIALS[:] = tokenizer_corpus.COMMON_SPECIALS + 3 * tokenizer_families.special_texts(spec)
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    texts = [(3, text) for text in tokenizer_corpus.FIXED if len(text) <= MAX_FIXED_BYTES]
    texts += [(rng.choice([0, 1, 2, 3, 3, 3]), tokenizer_corpus.random_text(rng, NUM_PARTS)) for _ in range(NUM_TEXTS)]
    ids = [tokenizer_corpus.random_ids(rng, tokenizer.get_vocab_size() + 3, 8) for _ in range(NUM_IDS)]
    rows = {
        "encode": [[flags, t, encode(tokenizer, t, flags)] for flags, t in texts],
        "decode": [[i, tokenizer.decode(i, skip_special_tokens=False), tokenizer.decode(i, skip_special_tokens=True)] for i in ids],
    }
    lines = [f'{{"made_by": "tools/make_tokenizer_cases.py with tokenizers {tokenizers.__version__}"']
    lines.append(f'"tokenizer": {json.dumps(spec, ensure_ascii=False, separators=(",", ":"))}')
    for field, values in rows.items():
        lines.append(f'"{field}": [\n' + ",\n".join(json.dumps(v, separators=(",", ":")) for v in values) + "]")
    path = FOLDER / f"{name}.json"
    path.write_text(",\n".join(lines) + "}\n")
    print(f"{path}: {path.stat().st_size} bytes")


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    if len(sys.argv) == 3:
        write_case(sys.argv[1], json.loads(pathlib.Path(sys.argv[2]).read_text()))
    else:
        for name in tokenizer_families.FAMILIES:
            write_case(name, tokenizer_families.make(name, NUM_TOKENS))


if __name__ == "__main__":
    main()
