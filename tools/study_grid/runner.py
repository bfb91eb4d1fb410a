"""Runs rows: quantize, evaluate, keep one JSON a row. What is there is not run again."""
import concurrent.futures
import json
import pathlib
import shutil
import subprocess
import sys
import time


class RowFailed(Exception):
    pass


def run_command(arguments):
    process = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, check=False)
    if process.returncode != 0:
        lines = (process.stderr or process.stdout).strip().splitlines()
        raise RowFailed(lines[-1] if lines else f"{arguments[0]}: exit code {process.returncode}")


def result_of(path):
    return json.loads(path.read_text())["result"]


class Runner:
    """`models` maps a model's name to its folder; `work` keeps rows/*.json, and models while they are needed."""

    def __init__(self, spec, models, args):
        self.spec, self.models, self.args = spec, models, args
        self.work = pathlib.Path(args.work)
        self.deadline = time.monotonic() + args.stop_after if args.stop_after else None
        (self.work / "rows").mkdir(parents=True, exist_ok=True)

    def row_path(self, row):
        return self.work / "rows" / row.file_name

    def settings(self, row):
        """What a kept row must agree with, so that a changed spec or token count runs it again."""
        return {"num_tokens": self.args.num_tokens, "quantize": row.quantize, "kv_cache": row.kv_cache, "eval": row.eval,
                "common": self.spec.json["quantize"]}

    def done(self, row):
        path = self.row_path(row)
        return path.exists() and json.loads(path.read_text())["settings"] == self.settings(row)

    def make_outliers(self, name, entry):
        """A variant of a model with outlier channels, by the script that --outlier-script names."""
        folder = self.work / "models" / name
        if not (folder / "config.json").exists():
            partial = folder.with_name(folder.name + ".partial")
            shutil.rmtree(partial, ignore_errors=True)
            run_command([sys.executable, self.args.outlier_script, self.models[entry["outliers_of"]], partial, "--factor",
                         entry["factor"]])
            partial.rename(folder)
        return folder

    def prepare_models(self, rows):
        (self.work / "models").mkdir(exist_ok=True)
        for name in sorted({row.model for row in rows}):
            entry = self.spec.models[name]
            if "outliers_of" in entry:
                self.models[name] = self.make_outliers(name, entry)
            elif not (self.models[name] / "config.json").exists():
                raise SystemExit(f"{self.models[name]}: no model {name} here; give --models-dir or --model {name}=FOLDER")

    def dense_variant(self, row, folder):
        """The model with another cache: its files linked, config.json rewritten."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        source = self.models[row.model].resolve()
        for path in source.iterdir():
            if path.name != "config.json":
                (folder / path.name).symlink_to(path)
        config = json.loads((source / "config.json").read_text())
        config["comet_kv_cache"] = row.kv_cache
        (folder / "config.json").write_text(json.dumps(config, indent=2))

    def run_row(self, row):
        args = self.args
        source = self.models[row.model]
        folder = self.work / "models" / row.file_name.removesuffix(".json")
        log = self.work / "models" / row.file_name
        common = ["--threads", args.threads, "--quiet", "--json", log]
        begin = time.monotonic()
        record = {"id": row.id, "model": row.model, "name": row.name, "axes": row.axes, "settings": self.settings(row)}
        if row.quantize is not None:
            run_command([args.binary, "quantize", source, "-o", folder, "--force", "--calib", args.calibration,
                         *self.spec.json["quantize"], *row.quantize, *common])
            record["quantize"] = {k: v for k, v in result_of(log).items() if k != "layers"}
        elif row.kv_cache is not None:
            self.dense_variant(row, folder)
        candidate = source if row.quantize is None and row.kv_cache is None else folder
        quantized = time.monotonic()
        run_command([args.binary, "eval", candidate, "--base", source, "--tasks", f"text:{args.text}", "--num-tokens",
                     args.num_tokens, *row.eval, *common])
        envelope = json.loads(log.read_text())
        (record["eval"],) = envelope["result"]["tasks"].values()
        record.update(git_commit=envelope["git_commit"], machine=envelope["machine"],
                      seconds={"quantize": quantized - begin, "eval": time.monotonic() - quantized})
        self.row_path(row).with_suffix(".partial").write_text(json.dumps(record))
        self.row_path(row).with_suffix(".partial").rename(self.row_path(row))
        log.unlink()
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
        return record

    def guarded(self, row):
        if self.deadline and time.monotonic() > self.deadline:
            return row, "left for the next call", None
        try:
            return row, None, self.run_row(row)
        except RowFailed as failure:
            return row, f"FAILED: {failure}", None

    def run(self, rows):
        """Runs what is not there yet; returns the ids that failed and the ids left over."""
        todo = [row for row in rows if not self.done(row)]
        print(f"{len(rows)} rows, {len(rows) - len(todo)} of them done", flush=True)
        self.prepare_models(todo)
        # Long rows first, so that the last ones to end are short.
        todo.sort(key=lambda row: (-sum(f.stat().st_size for f in self.models[row.model].glob("*.safetensors")),
                                   row.quantize is None, "gptq" not in (row.quantize or ["gptq"])))
        failed, left = [], []
        with concurrent.futures.ThreadPoolExecutor(self.args.jobs) as pool:
            for i, future in enumerate(concurrent.futures.as_completed([pool.submit(self.guarded, row) for row in todo])):
                row, problem, record = future.result()
                if problem:
                    (left if problem.startswith("left") else failed).append(row.id)
                    text = problem
                else:
                    text = (f"perplexity {record['eval']['token_perplexity']:.3f}, "
                            f"{record['seconds']['quantize']:.0f} + {record['seconds']['eval']:.0f} s")
                print(f"[{i + 1}/{len(todo)}] {row.id}: {text}", flush=True)
        return failed, left
