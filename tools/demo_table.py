#!/usr/bin/env python3
"""Prints the table of ./dev demo from the JSON files that tools/demo.sh left in OUT.

usage: tools/demo_table.py OUT MODEL
"""

import json
import pathlib
import statistics
import sys

ROWS = [  # title, name of the JSON files, directory under OUT (None = MODEL)
    ("BF16", "bf16", None),
    ("W8A8-FP", "w8a8-fp8", "w8a8-fp8"),
    ("W8A8-INT", "w8a8-int", "w8a8-int"),
    ("W4A16", "w4a16", "w4a16"),
    ("W4AxKV4 fmpq", "fmpq", "fmpq"),
    ("W4AxKV4 w4a8", "w4a8", "w4a8"),
    ("naive W4A4KV4", "naive", "naive"),
]
HEADER = ["format", "size", "perplexity", "loss", "4-bit activations", "CPU tokens/s"]


def result(path):
    return json.loads(path.read_text())["result"]


def weight_bytes(model_dir):
    return sum(f.stat().st_size for f in model_dir.glob("*.safetensors"))


def perplexity(out, name):
    (task,) = result(out / f"{name}.eval.json")["tasks"].values()
    return task["token_perplexity"]


def tokens_per_s(out, name):
    runs = out.glob(f"{name}.speed*.json")
    return statistics.median(result(r)["timings"]["decode_tokens_per_s"] for r in runs)


def row(out, model, title, name, folder, base_perplexity):
    model_dir = out / folder if folder else model
    ppl = perplexity(out, name)
    share = "-"
    if folder:
        report = json.loads((model_dir / "quant_report.json").read_text())
        if report["format"] == "w4ax":
            share = f"{100 * report['int4_activation_share']:.0f} %"
    loss = "" if name == "bf16" else f"{100 * (ppl / base_perplexity - 1):+.1f} %"
    size = f"{weight_bytes(model_dir) / 1e6:.1f} MB"
    return [title, size, f"{ppl:.2f}", loss, share, f"{tokens_per_s(out, name):.0f}"]


def print_table(rows):
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    for idx, cells in enumerate(rows):
        line = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths))]
        print("  ".join(line).rstrip())
        if idx == 0:
            print("  ".join("-" * w for w in widths))


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    out, model = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    base = perplexity(out, "bf16")
    print_table([HEADER] + [row(out, model, *spec, base) for spec in ROWS])


if __name__ == "__main__":
    main()
