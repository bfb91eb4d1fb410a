#!/usr/bin/env python3
"""`comet bench serve` beside second_client.py on the same running server, in turns: how far their figures are apart.

usage: tests/http/compare_clients.py BINARY URL [--rounds 3] [--input-len 128] [--output-len 64] [--num-requests 100]
       [--concurrency C | --rate R]

For a quiet machine, by hand: what else runs there is in both tools' figures, and differs from run to run.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

FIGURES = [f"{figure}_{name}_ms" for name in ("ttft", "itl", "tpot", "e2el") for figure in ("mean", "p50", "p95", "p99")]
FIGURES.append("request_throughput")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("url")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--input-len", type=int, default=128)
    parser.add_argument("--output-len", type=int, default=64)
    parser.add_argument("--num-requests", type=int, default=100)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--rate", type=float)
    args = parser.parse_args()
    load = ["--input-len", args.input_len, "--output-len", args.output_len, "--num-requests", args.num_requests]
    load += ["--rate", args.rate] if args.rate else ["--concurrency", args.concurrency]
    load = [str(x) for x in load]
    second_client = pathlib.Path(__file__).with_name("second_client.py")
    ours, second = [], []
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "ours.json"
        for i in range(args.rounds):
            subprocess.run([args.binary, "bench", "serve", "--url", args.url, *load, "--warmup", "1", "--seed", str(100 + i),
                            "--json", str(out), "--quiet"], check=True)
            ours.append(json.loads(out.read_text())["result"])
            run = subprocess.run([sys.executable, str(second_client), args.url, *load, "--seed", str(200 + i)], check=True,
                                 capture_output=True)
            second.append(json.loads(run.stdout))
    print(f"{'figure':<20} {'bench serve':>12} {'second':>12} {'apart':>8}")
    for figure in FIGURES:
        a, b = (sum(run[figure] for run in runs) / len(runs) for runs in (ours, second))
        print(f"{figure:<20} {a:>12.3f} {b:>12.3f} {100 * (a / b - 1):>+7.1f} %")


if __name__ == "__main__":
    main()
