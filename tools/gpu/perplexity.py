#!/usr/bin/env python3
"""Perplexity of one model in every format, on the CPU and on the GPU of this machine.

Quantizes MODEL to each format (on the CPU, as the demo does), evaluates the same tokens with
--device cpu and --device cuda, writes one JSON file and ends with 1 where they differ by more than
--bound. Called by ./dev gpu bench perplexity.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

# name -> flags of comet quantize; None: the checkpoint itself, in BF16.
FORMATS = {
    "bf16": None,
    "w8a8-fp8": ["--format", "w8a8-fp8"],
    "w8a8-int": ["--format", "w8a8-int"],
    "w4a16": ["--format", "w4a16"],
    "w4a8 kv4": ["--format", "w4ax", "--recipe", "w4a8", "--kv", "kv4"],
    "w4a8 kv8": ["--format", "w4ax", "--recipe", "w4a8", "--kv", "kv8"],
    "fmpq kv4": ["--format", "w4ax", "--recipe", "fmpq", "--kv", "kv4"],
    "paper kv4": ["--format", "w4ax", "--recipe", "paper", "--kv", "kv4"],
}


def run(command):
    """Runs a command; its stderr is shown only where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"perplexity: {' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def evaluate(arguments, model, device, folder):
    """The token perplexity of a model folder on one device."""
    path = os.path.join(folder, "eval.json")
    run([arguments.comet, "eval", model, "--tasks", f"text:{arguments.text}", "--num-tokens",
         str(arguments.num_tokens), "--device", device, "--json", path])
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    (task,) = report["result"]["tasks"].values()
    return task["token_perplexity"], task["num_tokens"], report


def measure(arguments, folder):
    """Rows of every format, and the report of the last run for its machine and commit."""
    rows = []
    for name, flags in FORMATS.items():
        model = arguments.model
        if flags is not None:
            model = os.path.join(folder, name.replace(" ", "-"))
            run([arguments.comet, "quantize", arguments.model, "-o", model, *flags, "--calib",
                 arguments.calibration, "--calib-samples", "32", "--calib-length", "512", "--device", "cpu"])
        cpu, num_tokens, _ = evaluate(arguments, model, "cpu", folder)
        cuda, _, report = evaluate(arguments, model, "cuda", folder)
        rows.append({"format": name, "num_tokens": num_tokens, "cpu": cpu, "cuda": cuda,
                     "difference": cuda / cpu - 1})
        print(f"{name:10} {num_tokens} tokens: CPU {cpu:.4f}, CUDA {cuda:.4f}, {100 * (cuda / cpu - 1):+.4f} %",
              flush=True)
    return rows, report


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comet", required=True, help="the program")
    parser.add_argument("--model", default="models/demo")
    parser.add_argument("--text", default="models/demo/heldout.txt")
    parser.add_argument("--calibration", default="models/demo/calibration.txt")
    parser.add_argument("--num-tokens", type=int, default=32768)
    parser.add_argument("--bound", type=float, default=0.003, help="largest relative difference")
    parser.add_argument("--json", required=True, help="the result file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows, report = measure(arguments, folder)
    report.update(command="gpu bench perplexity",
                  result={"model": arguments.model, "text": arguments.text, "bound": arguments.bound, "rows": rows})
    with open(arguments.json + ".part", "w", encoding="utf-8") as file:
        json.dump(report, file, indent=2)
        file.write("\n")
    os.replace(arguments.json + ".part", arguments.json)
    worst = max(rows, key=lambda row: abs(row["difference"]))
    if abs(worst["difference"]) > arguments.bound:
        sys.exit(f"perplexity: {worst['format']} differs by {100 * worst['difference']:.3f} %, "
                 f"more than {100 * arguments.bound:g} %")


if __name__ == "__main__":
    main()
