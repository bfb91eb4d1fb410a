#!/usr/bin/env python3
"""A tokenizer folder whose vocabulary is filled up to a synthetic model's: FROM SIZE TO.

A synthetic model draws ids of its whole shape (128,256 for LLaMA-3), and ids that a smaller
tokenizer lacks have no text to stream. Copies FROM's tokenizer files to TO and adds entries
" w<id>", which no merge ever makes. For load tests with comet serve --synthetic.
"""
import json
import os
import shutil
import sys


def main():
    if len(sys.argv) != 4:
        sys.exit(f"usage: {sys.argv[0]} FROM SIZE TO")
    source, size, target = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    with open(os.path.join(source, "tokenizer.json"), encoding="utf-8") as file:
        tokenizer = json.load(file)
    vocabulary = tokenizer["model"]["vocab"]
    used = set(vocabulary.values()) | {token["id"] for token in tokenizer["added_tokens"]}
    for token in range(size):
        if token not in used:
            vocabulary[f"\u0120w{token}"] = token  # U+0120: a blank, in byte-level spelling
    os.makedirs(target, exist_ok=True)
    with open(os.path.join(target, "tokenizer.json"), "w", encoding="utf-8") as file:
        json.dump(tokenizer, file, ensure_ascii=False)
    shutil.copy(os.path.join(source, "tokenizer_config.json"), target)


if __name__ == "__main__":
    main()
