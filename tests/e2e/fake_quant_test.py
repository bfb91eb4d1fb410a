#!/usr/bin/env python3
"""Comet's quantized models beside tools/fake_quant.py, which reads them on its own and computes in floating point.

usage: fake_quant_test.py BINARY SOURCE_DIR; exit code 77 (skipped) where numpy or tokenizers are missing
"""
import pathlib
import subprocess
import sys
import tempfile

BINARY, SOURCE = sys.argv[1], pathlib.Path(sys.argv[2])
DEMO = SOURCE / "models/demo"
COMMON = ["--calib-samples", "2", "--calib-length", "64", "--quiet"]
# Name: tolerance of the perplexity over few tokens (8-bit activations agree closely, 4-bit ones as far as the luck of
# their ties goes; short windows, most without a tie, are the sharp test), flags of quantize.
CASES = {
    "progressive": (0.005, ["--format", "w4ax", "--recipe", "w4a8"]),
    "hadamard": (0.06, ["--format", "w4ax", "--recipe", "fmpq", "--weights", "clip"]),
    "blocks": (0.06, ["--format", "w4ax", "--recipe", "paper", "--kv-window", "4,32", "--lm-head", "int8"]),
    "w4a16": (0.005, ["--format", "w4a16", "--weights", "rtn", "--kv", "kv8"]),
}


def run(*command):
    return subprocess.run([str(part) for part in command], check=False).returncode


def main():
    failures = []
    with tempfile.TemporaryDirectory(prefix="comet-fake-quant-") as folder:
        for name, (tolerance, flags) in CASES.items():
            out = pathlib.Path(folder) / name
            if run(BINARY, "quantize", DEMO, "-o", out, *COMMON, *flags) != 0:
                failures.append(f"{name}: quantize failed")
                continue
            command = [sys.executable, SOURCE / "tools/fake_quant.py", out, "--text", DEMO / "heldout.txt", "--binary", BINARY]
            codes = [run(*command, "--num-tokens", 600, "--tolerance", tolerance),
                     run(*command, "--num-tokens", 160, "--max-length", 4, "--tolerance", 0.05, "--median-tolerance", 1e-4)]
            if 77 in codes:
                sys.exit(77)
            if codes != [0, 0]:
                failures.append(f"{name}: differs from the float model")
    sys.exit("\n".join(failures) or 0)


if __name__ == "__main__":
    main()
