#!/usr/bin/env python3
"""`comet bench serve` beside second_client.py on the same running server: how far their figures are apart.

usage: tests/http/compare_clients.py BINARY URL [--rounds 8] [--input-len 128] [--output-len 64] [--num-requests 40]
       [--concurrency C | --rate R]

Short runs in turns (ours, second, second, ours, …), so that a drift of the machine meets both alike; figures are of
all rounds' values together, "apart" has its standard error over pairs of rounds. By hand, and below saturation: a
machine that is full gives other waiting times each time, to either tool.
"""
import argparse
import json
import math
import pathlib
import statistics
import subprocess
import sys
import tempfile

import second_client

SERIES = {"ttft": "ttfts", "itl": "itls", "e2el": "latencies"}
FIGURES = {"mean": statistics.fmean, **{f"p{p}": lambda values, p=p: second_client.percentile(values, p) for p in (50, 95, 99)}}


def run_ours(args, load, seed):
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "ours.json"
        subprocess.run([args.binary, "bench", "serve", "--url", args.url, *load, "--warmup", "1", "--seed", str(seed), "--detailed",
                        "--json", str(out), "--quiet"], check=True)
        result = json.loads(out.read_text())["result"]
    series = {name: result[field] for name, field in SERIES.items()}
    series["itl"] = [gap for gaps in series["itl"] for gap in gaps]
    return {name: [1e3 * value for value in values] for name, values in series.items()}


def run_second(args, load, seed):
    script = pathlib.Path(__file__).with_name("second_client.py")
    run = subprocess.run([sys.executable, script, args.url, *load, "--seed", str(seed), "--detailed"], check=True,
                         capture_output=True)
    return json.loads(run.stdout)["series"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("url")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--input-len", type=int, default=128)
    parser.add_argument("--output-len", type=int, default=64)
    parser.add_argument("--num-requests", type=int, default=40)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--rate", type=float)
    args = parser.parse_args()
    load = ["--input-len", args.input_len, "--output-len", args.output_len, "--num-requests", args.num_requests]
    load += ["--rate", args.rate] if args.rate else ["--concurrency", args.concurrency]
    load = [str(x) for x in load]
    ours, second = [], []
    for i in range(args.rounds):
        turns = [(run_ours, ours), (run_second, second)]
        for run, runs in turns if i % 2 == 0 else reversed(turns):
            runs.append(run(args, load, 100 + i))
    print(f"{'ms':<10} {'bench serve':>12} {'second':>12} {'apart':>8}")
    for name in SERIES:
        for figure, of in FIGURES.items():
            a, b = (of([value for run in runs for value in run[name]]) for runs in (ours, second))
            differences = [(of(x[name]) - of(y[name])) / max(b, 1e-9) for x, y in zip(ours, second)]
            error = statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else math.nan
            print(f"{figure + ' ' + name:<10} {a:>12.3f} {b:>12.3f} {100 * (a / max(b, 1e-9) - 1):>+7.1f} % ± {100 * error:.1f}")


if __name__ == "__main__":
    main()
