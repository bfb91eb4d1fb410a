#!/usr/bin/env python3
"""The independent check of Comet's quantized models: perplexity in float Python beside `comet eval`'s.

usage: tools/fake_quant.py MODEL... --text FILE [--binary comet] [--num-tokens N] [--max-length N] [--kv FORMAT]

Each MODEL folder (w4ax, w4a16 or dense) is read from docs/formats.md alone, its activations and cache are rounded to
what their integers mean, and everything is multiplied in floating point. With --binary `comet eval` scores the same
windows, and the exit code is 1 where the perplexities differ by more than --tolerance. Where activations have 4 bits,
one rounding that falls to the other side of a tie changes all that follows: two right programs (Comet's own AVX2 and
AVX-512 kernels, for that matter) differ by 0.4 % over 8,192 tokens, and by less the more tokens there are. The sharp
test of such a model is short windows (--max-length 4), most of which meet no tie: --median-tolerance 1e-4.
Needs numpy and tokenizers; where they are missing the exit code is 77 (skipped).
"""
import argparse
import json
import math
import pathlib
import subprocess
import sys

try:
    import numpy as np  # noqa: F401
    import tokenizers
except ImportError as missing:
    print(f"fake_quant: skipped, {missing}", file=sys.stderr)
    sys.exit(77)

from fake_quant_model import checkpoint as checkpoints
from fake_quant_model import model as models


def split_documents(text):
    """Pieces between lines <|endoftext|>, without newlines at their ends; empty ones are left out."""
    pieces, current = [], []
    for line in text.splitlines(keepends=True):
        if line.rstrip("\r\n") == "<|endoftext|>":
            pieces.append("".join(current))
            current = []
        else:
            current.append(line)
    pieces.append("".join(current))
    return [piece.rstrip("\n") for piece in pieces if piece.rstrip("\n")]


def windows(tokenizer, text, length, num_tokens):
    """Token windows of `length` + 1: each begins with the last token of the one before."""
    left = num_tokens or math.inf
    for document in split_documents(text):
        ids = tokenizer.encode(document).ids
        done = 0
        while done < len(ids) - 1 and left > 0:
            count = int(min(length, len(ids) - 1 - done, left))
            yield ids[done:done + count + 1]
            done += count
            left -= count
        if left <= 0:
            return


def comet_windows(binary, folder, args):
    command = [binary, "eval", folder, "--tasks", f"text:{args.text}", "--json", "-", "--quiet", "--num-tokens",
               args.num_tokens, *(["--kv", args.kv] if args.kv else []),
               *(["--max-length", args.max_length] if args.max_length else [])]
    process = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if process.returncode != 0:
        raise SystemExit(f"fake_quant: {process.stderr}")
    (task,) = json.loads(process.stdout)["result"]["tasks"].values()
    return task["windows"]


def check(folder, args):
    checkpoint = checkpoints.Checkpoint(folder, args.kv)
    model = models.Model(checkpoint)
    length = args.max_length or min(2048, checkpoint.config["max_position_embeddings"])
    tokenizer = tokenizers.Tokenizer.from_file(str(checkpoint.folder / "tokenizer.json"))
    sums, counts = [], []
    for ids in windows(tokenizer, args.text.read_text(encoding="utf-8"), length, args.num_tokens):
        sums.append(float(model.log_probs(ids).sum()))
        counts.append(len(ids) - 1)
    perplexity = math.exp(-sum(sums) / sum(counts))
    line = f"{folder}: fake-quant perplexity {perplexity:.4f} over {sum(counts)} tokens"
    if not args.binary:
        print(line)
        return True
    theirs = comet_windows(args.binary, folder, args)
    if theirs["num_tokens"] != counts:
        print(f"{line}; comet cut the text into other windows: {theirs['num_tokens'][:5]}…, not {counts[:5]}…")
        return False
    other = math.exp(-sum(theirs["log_prob_sum"]) / sum(counts))
    apart = sorted(abs(a - b) / n for a, b, n in zip(sums, theirs["log_prob_sum"], counts))
    good = abs(perplexity / other - 1) <= args.tolerance and apart[len(apart) // 2] <= args.median_tolerance
    print(f"{line}, comet {other:.4f}: {100 * (perplexity / other - 1):+.3f} %, windows {apart[len(apart) // 2]:.1e} "
          f"(median) to {apart[-1]:.1e} nats a token apart {'PASS' if good else 'FAIL'}", flush=True)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=pathlib.Path, metavar="MODEL")
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--binary", help="the comet program to compare with")
    parser.add_argument("--kv", choices=["kv16", "kv8", "kv4"], help="cache format (default: the checkpoint's)")
    parser.add_argument("--tolerance", type=float, default=0.005, help="share of a perplexity")
    parser.add_argument("--median-tolerance", type=float, default=math.inf, help="nats a token, over windows")
    parser.add_argument("--num-tokens", type=int, default=8192)
    parser.add_argument("--max-length", type=int, default=0)
    args = parser.parse_args()
    sys.exit(0 if all([check(folder, args) for folder in args.models]) else 1)


if __name__ == "__main__":
    main()
