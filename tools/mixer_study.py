#!/usr/bin/env python3
"""studies/inception-mixer: from the logs of training runs to results.json, the plot and the README's tables.

usage: tools/mixer_study.py --runs DIR --speed JSON...   reads DIR/<mixer>-<seed>/{log.jsonl,recipe.json} (comet vision train)
                                                         and comet bench vision --mode train --json files
       tools/mixer_study.py --write | --check            renews plot and tables from results.json, or says what is stale

The mixer "inception" is the network's own; the others are depthwise convolutions of that size in its place. A difference
is of two runs of one seed (same initial weights where shapes agree, same images in the same order); its 95 % interval is
Student's t over the seeds.
"""
import argparse
import json
import math
import pathlib
import re
import sys

from study_grid import svg
from study_grid.statistics import t_quantile

STUDY = pathlib.Path(__file__).resolve().parent.parent / "studies/inception-mixer"
BASE = "inception"
TABLES = re.compile(r"(<!-- mixer_study -->\n).*?(\n<!-- mixer_study end -->)", re.DOTALL)


def read_run(folder):
    epochs = [row for row in map(json.loads, (folder / "log.jsonl").read_text().splitlines()) if row["type"] == "epoch"]
    recipe = json.loads((folder / "recipe.json").read_text())
    if epochs[-1]["epoch"] != recipe["epochs"]:
        raise SystemExit(f"{folder}: ended after epoch {epochs[-1]['epoch']} of {recipe['epochs']}; run it to its end (--resume)")
    points = [{"epoch": row["epoch"], "train_loss": row["train_loss"], "top1": row["validation"]["top1"],
               "average_top1": row["average_validation"]["top1"]} for row in epochs if "validation" in row]
    return {"mixer": recipe["mixer"] or BASE, "seed": recipe["seed"], "epochs": points}, recipe


def collect(runs_folder, speed_paths):
    runs, recipes = zip(*(read_run(path.parent) for path in sorted(pathlib.Path(runs_folder).glob("*-*/log.jsonl"))))
    shared = [{k: v for k, v in recipe.items() if k not in ("mixer", "seed")} for recipe in recipes]
    if any(recipe != shared[0] for recipe in shared):
        raise SystemExit(f"{runs_folder}: the runs' recipes differ in more than mixer and seed")
    speed = {}
    for path in speed_paths:
        report = json.loads(pathlib.Path(path).read_text())
        for row in report["result"]["rows"]:
            speed[row["mixer"] or BASE] = {"images_per_s": row["images_per_s"], "gpu": report["machine"]["gpu"],
                                           "batch": row["batch"], "size": row["size"], "git_commit": report["git_commit"]}
    return {"recipe": shared[0], "speed": speed, "runs": list(runs)}


def top1_by_seed(results, mixer):
    """Percent, of the averaged weights at the end."""
    return {run["seed"]: 100 * run["epochs"][-1]["average_top1"] for run in results["runs"] if run["mixer"] == mixer}


def mean_interval(values):
    """Mean and half of its 95 % interval."""
    n = len(values)
    mean = sum(values) / n
    return mean, t_quantile(n - 1) * math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n)


def mixers_of(results):
    return list(dict.fromkeys([BASE, *(run["mixer"] for run in results["runs"])]))


def tables(results):
    seeds = sorted(top1_by_seed(results, BASE))
    lines = ["| mixer | " + " | ".join(f"seed {seed}" for seed in seeds) + " | mean | trains, images/s |",
             "|---|" + "---|" * (len(seeds) + 2)]
    for mixer in mixers_of(results):
        top1 = top1_by_seed(results, mixer)
        mean, half = mean_interval(list(top1.values()))
        lines.append(f"| {mixer} | " + " | ".join(f"{top1[seed]:.2f}" for seed in seeds) +
                     f" | {mean:.2f} ± {half:.2f} | {results['speed'][mixer]['images_per_s']:,.0f} |")
    lines += ["", f"| {BASE} less | " + " | ".join(f"seed {seed}" for seed in seeds) + " | mean, 95 % interval | speed |",
              "|---|" + "---|" * (len(seeds) + 2)]
    base, base_speed = top1_by_seed(results, BASE), results["speed"][BASE]["images_per_s"]
    for mixer in mixers_of(results)[1:]:
        top1 = top1_by_seed(results, mixer)
        gaps = [base[seed] - top1[seed] for seed in seeds]
        mean, half = mean_interval(gaps)
        lines.append(f"| {mixer} | " + " | ".join(f"{gap:+.2f}" for gap in gaps) +
                     f" | {mean:+.2f} ({mean - half:+.2f} to {mean + half:+.2f}) | "
                     f"{base_speed / results['speed'][mixer]['images_per_s']:.2f}× |")
    return "\n".join(lines)


def plot(results):
    """Top-1 against training speed: every seed, the mean and its interval."""
    width, height, left, right, top, bottom = 720, 420, 70, 30, 92, 58
    canvas = svg.Canvas(width, height)
    canvas.text(26, 28, "Accuracy and speed by mixer", 16, weight=600)
    recipe = results["recipe"]
    canvas.text(26, 48, f"{recipe['architecture']}, Imagenette {recipe['image_size']}², {recipe['epochs']} epochs; hollow: a seed; "
                "full: the mean of five with its 95 % interval", 12, svg.MUTED)
    top1 = {mixer: list(top1_by_seed(results, mixer).values()) for mixer in mixers_of(results)}
    speeds = {mixer: results["speed"][mixer]["images_per_s"] / 1e3 for mixer in top1}
    low, high = math.floor(min(map(min, top1.values()))) - 1, math.ceil(max(map(max, top1.values()))) + 1
    slow, quick = math.floor(min(speeds.values())) - 1, math.ceil(max(speeds.values())) + 1
    x_of = lambda v: left + (v - slow) / (quick - slow) * (width - left - right)
    y_of = lambda v: height - bottom - (v - low) / (high - low) * (height - bottom - top)
    for tick in range(low, high + 1):
        canvas.line(left, y_of(tick), width - right, y_of(tick))
        canvas.text(left - 8, y_of(tick) + 4, f"{tick} %", 11, svg.MUTED, "end")
    for tick in range(slow, quick + 1, 2):
        canvas.text(x_of(tick), height - bottom + 18, f"{tick},000", 11, svg.MUTED, "middle")
    for i, mixer in enumerate(top1):
        x, color = x_of(speeds[mixer]), svg.COLORS[i]
        for value in top1[mixer]:
            canvas.marker(x - 9, y_of(value), color, hollow=True, size=3.4)
        mean, half = mean_interval(top1[mixer])
        canvas.line(x, y_of(mean - half), x, y_of(mean + half), color, 1.8)
        canvas.marker(x, y_of(mean), color)
        canvas.text(x + 10, y_of(mean) + 4, mixer, 13, color, weight=600)
    canvas.text((left + width - right) / 2, height - 14, "images a second, training step on one GPU", 12, svg.MUTED, "middle")
    canvas.text(18, (top + height - bottom) / 2, "top-1 of the validation images", 12, svg.MUTED, "middle", rotate=-90)
    return canvas.document()


def outputs(results):
    readme = STUDY / "README.md"
    text, found = TABLES.subn(lambda match: match[1] + tables(results) + match[2], readme.read_text())
    if found != 1:
        raise SystemExit(f"{readme}: has {found} places for the tables between <!-- mixer_study --> and <!-- mixer_study end -->")
    return {readme: text, STUDY / "mixers.svg": plot(results)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs")
    parser.add_argument("--speed", nargs="*", default=[])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    path = STUDY / "results.json"
    if args.runs:
        path.write_text(json.dumps(collect(args.runs, args.speed), indent=1) + "\n")
    renewed = outputs(json.loads(path.read_text()))
    if args.check:
        stale = [str(page) for page, text in renewed.items() if not page.exists() or page.read_text() != text]
        if stale:
            raise SystemExit(f"stale: {', '.join(stale)}; tools/mixer_study.py --write renews them")
    if args.write or args.runs:
        for page, text in renewed.items():
            page.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
