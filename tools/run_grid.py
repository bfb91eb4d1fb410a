#!/usr/bin/env python3
"""Runs a grid study and writes its results.json, plots and the generated part of its README.

usage: tools/run_grid.py studies/fmpq-modes --binary build/bin/comet --models-dir DIR --data-dir DIR [--jobs N] ...

Every row (a model, flags of `comet quantize`, flags of `comet eval`) leaves one JSON in WORK/rows; a row that is there
is not run again, so a run that was cut off, or split by --part or --stop-after, goes on where it ended. The report is
made of whatever rows there are; a verdict without its row is MISSING. Exit code 0: every must-line passes; 1: a row
failed or a must-line does; 3: rows are left for the next call.
"""
import argparse
import json
import os
import pathlib
import re
import sys

from study_grid import report, runner, statistics
from study_grid.spec import Spec


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=pathlib.Path, help="folder with spec.json")
    parser.add_argument("--binary", type=pathlib.Path, default="build/bin/comet")
    parser.add_argument("--models-dir", type=pathlib.Path, default="../shared/models", help="holds one folder per model")
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FOLDER", help="where one model lies instead")
    parser.add_argument("--outlier-script", type=pathlib.Path, help="default: MODELS_DIR/make_outliers.py")
    parser.add_argument("--data-dir", type=pathlib.Path, default="../shared/data/text", help="holds the spec's texts")
    parser.add_argument("--work", type=pathlib.Path, help="default: build/study/<name of the study>")
    parser.add_argument("--out", type=pathlib.Path, help="where the report goes (default: the study's folder)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="rows at a time")
    parser.add_argument("--threads", type=int, default=1, help="of each row")
    parser.add_argument("--num-tokens", type=int, help="instead of the spec's: a trial run (give --out too)")
    parser.add_argument("--only", help="rows whose model/name holds this regular expression")
    parser.add_argument("--part", default="0/1", metavar="I/N", help="rows I, I + N, I + 2N … of those")
    parser.add_argument("--stop-after", type=float, help="start no row after so many seconds")
    parser.add_argument("--keep", action="store_true", help="keep the quantized models in WORK/models")
    parser.add_argument("--list", action="store_true", help="print the rows and end")
    parser.add_argument("--report-only", action="store_true", help="run nothing")
    args = parser.parse_args()
    args.work = args.work or pathlib.Path("build/study") / args.study.name
    args.out = args.out or args.study
    args.outlier_script = args.outlier_script or args.models_dir / "make_outliers.py"
    return args


def chosen_rows(spec, args):
    rows = [row for row in spec.rows if not args.only or re.search(args.only, row.id)]
    part, num_parts = (int(x) for x in args.part.split("/"))
    return rows[part::num_parts]


def read_records(spec, grid_runner):
    return {row.id: json.loads(grid_runner.row_path(row).read_text()) for row in spec.rows if grid_runner.done(row)}


def main():
    statistics.self_test()
    args = parse_arguments()
    spec = Spec(args.study / "spec.json")
    trial = args.num_tokens is not None and args.num_tokens != spec.json["num_tokens"]
    if trial and args.out == args.study:
        raise SystemExit("run_grid: a trial run by --num-tokens needs an --out of its own")
    args.num_tokens = args.num_tokens or spec.json["num_tokens"]
    args.text, args.calibration = args.data_dir / spec.json["text"], args.data_dir / spec.json["calibration"]
    models = {name: args.models_dir / name for name in spec.models}
    models.update({name: pathlib.Path(folder) for name, folder in (m.split("=", 1) for m in args.model)})
    rows = chosen_rows(spec, args)
    if args.list:
        for row in rows:
            print(row.id, "quantize" if row.quantize is not None else "dense", *(row.quantize or []), *row.eval)
        return 0
    grid_runner = runner.Runner(spec, models, args)
    failed, left = ([], []) if args.report_only else grid_runner.run(rows)
    records = read_records(spec, grid_runner)
    if not records:
        raise SystemExit("run_grid: no row is done yet")
    results = report.Results(spec, records)
    report.write(results, args.out, args.num_tokens)
    report.print_checks(results)
    if left:
        print(f"{len(left)} rows are left: run the same command again")
        return 3
    return 1 if failed or any(c["level"] == "must" and c["verdict"] == "FAIL" for c in results.checks) else 0


if __name__ == "__main__":
    sys.exit(main())
