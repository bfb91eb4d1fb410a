"""From the rows that were run: results.json, the verdicts, the plots and the generated part of README.md."""
import json
import re

from study_grid import statistics, svg

BEGIN, END = "<!-- begin: written by tools/run_grid.py -->", "<!-- end -->"


class Results:
    def __init__(self, spec, records):
        self.spec, self.records = spec, records
        self.rows = {row.id: self._figures(row) for row in spec.rows if row.id in records}
        self.pairs = [self._pair(a, b) for a, b in self._pair_ids() if a in records and b in records]
        self.checks = [self._verdict(check) for check in spec.json["checks"]] + self._pairs_verdict()

    def _figures(self, row):
        record = self.records[row.id]
        task, quantize = record["eval"], record.get("quantize")
        figures = {"model": row.model, "name": row.name, **({"axes": row.axes} if row.axes else {}),
                   "perplexity": task["token_perplexity"], "kl_mean": task["kl_mean"],
                   "kl_mean_stderr": task["kl_mean_stderr"], "top1_agreement": task["top1_agreement"],
                   "num_tokens": task["num_tokens"], "num_windows": len(task["windows"]["num_tokens"])}
        base = self.records.get(self.spec.base_of(row))
        if base:
            value, low, high = statistics.loss(task["windows"], base["eval"]["windows"])
            figures.update(loss_percent=value, loss_interval=[low, high])
        if quantize:
            figures["size_bytes"] = quantize["size_bytes"]
            if "int4_activation_share" in quantize and quantize.get("format", "w4ax") == "w4ax":
                figures["int8_share"] = 1 - quantize["int4_activation_share"]
        return figures

    def _pair_ids(self):
        """(clip row, gptq row) of everything that exists by both methods."""
        pairs = self.spec.json["pairs"]
        ids = [tuple(pair) for pair in pairs["more"]]
        for row in self.spec.rows:
            if row.axes.get("weights") == "clip":
                other = row.name.rsplit(" ", 1)[0] + " " + pairs["clip"]
                ids.append((row.id, f"{row.model}/{other}"))
        return ids

    def _pair(self, clip, gptq):
        value, low, high = statistics.loss(self.records[gptq]["eval"]["windows"], self.records[clip]["eval"]["windows"])
        return {"clip": clip, "gptq": gptq, "gptq_minus_clip_percent": value, "interval": [low, high], "gptq_wins": high < 0}

    def _pairs_verdict(self):
        losers = [pair for pair in self.pairs if not pair["gptq_wins"]]
        explained = self.spec.json["explained"]
        unexplained = [pair["gptq"] for pair in losers if pair["gptq"] not in explained]
        total = len(self._pair_ids())
        verdict = "FAIL" if unexplained else "PASS" if len(self.pairs) == total else "MISSING"
        text = f"{len(self.pairs) - len(losers)} of {len(self.pairs)} pairs (of {total} asked for)"
        if losers:
            text += "; not: " + ", ".join(pair["gptq"] for pair in losers)
        return [{"level": "must", "text": "GPTQ beats clip search by a paired 95 % interval", "figure": text,
                 "verdict": verdict}]

    def _verdict(self, check):
        row = self.rows.get(check["row"])
        if "loss_at_most" in check:
            limit, text = check["loss_at_most"], f"{check['row']}: loss at most {check['loss_at_most']} %"
            value = row and row.get("loss_percent")
            figure = None if value is None else f"{value:+.2f} % [{row['loss_interval'][0]:+.2f}, {row['loss_interval'][1]:+.2f}]"
        else:
            other, limit = self.rows.get(check["of"]), check["ratio_at_most"]
            text = f"{check['row']}: perplexity at most {limit} × that of {check['of']}"
            value = row["perplexity"] / other["perplexity"] if row and other else None
            figure = None if value is None else f"{value:.4f}"
        verdict = "MISSING" if value is None else "PASS" if value <= limit else "FAIL"
        return {"level": check["level"], "text": text, "figure": figure or "no row", "verdict": verdict}

    def json(self, num_tokens):
        some = next(iter(self.records.values()))
        return {"spec": "spec.json", "num_tokens": num_tokens, "machine": some.get("machine"),
                "git_commits": sorted({r["git_commit"] for r in self.records.values()}),
                "checks": self.checks, "rows": list(self.rows.values()), "gptq_minus_clip": self.pairs}

    def grid_row(self, axes):
        """The figures at a point of the grid; a duplicate point gives the row that stands for it."""
        return self.rows.get(f"{self.spec.grid['model']}/{self.spec.grid_name(axes)}")


def signed(value):
    return f"{value:+.2f}" if abs(value) < 10 else f"{value:+.1f}" if abs(value) < 1000 else f"{value:+.0f}"


def loss_text(row):
    low, high = row["loss_interval"]
    return f"{signed(row['loss_percent'])} [{signed(low)}, {signed(high)}]"


def row_cells(row):
    share = f"{row['int8_share']:.3f}" if "int8_share" in row else "–"
    size = f"{row['size_bytes'] / 1e6:.1f}" if "size_bytes" in row else "–"
    return [f"{row['perplexity']:.3f}", loss_text(row), f"{row['kl_mean']:.4f}", f"{100 * row['top1_agreement']:.1f}", share,
            size]


def markdown(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


FIGURES = ["perplexity", "loss %, 95 %", "KL, nats", "top-1 %", "INT8 share", "MB"]


def named_tables(results):
    lines = []
    for model in results.spec.models:
        rows = [row for row in results.rows.values() if row["model"] == model and "axes" not in row and "loss_percent" in row]
        if rows:
            lines += [f"**{model}**, {rows[0]['num_tokens']} tokens in {rows[0]['num_windows']} windows", ""]
            lines += markdown(["row", *FIGURES], [[row["name"], *row_cells(row)] for row in rows]) + [""]
    return lines


def grid_table(results):
    pairs = {pair["gptq"]: pair for pair in results.pairs}
    rows = []
    for row in results.spec.rows:
        figures = results.rows.get(row.id)
        if not row.axes or not figures or "loss_percent" not in figures:
            continue
        pair = pairs.get(row.id)
        gain = "" if not pair else f"{signed(pair['gptq_minus_clip_percent'])} [{signed(pair['interval'][0])}, " \
                                   f"{signed(pair['interval'][1])}]{'' if pair['gptq_wins'] else ' (not separable)'}"
        rows.append([*row.axes.values(), *row_cells(figures), gain])
    if not rows:
        return []
    return markdown([*results.spec.grid["axes"], *FIGURES, "gptq against clip, %"], rows)


def generated(results):
    checks = [[c["verdict"], c["level"], c["text"], c["figure"]] for c in results.checks]
    explained = [f"- {row}: {why}" for row, why in results.spec.json["explained"].items()]
    return "\n".join(["## What must hold", "", *markdown(["", "", "what", "measured"], checks), "", *explained,
                      *([""] if explained else []), "## Recipes", "", "![](recipes.svg)", "", *named_tables(results),
                      f"## The grid, {results.spec.grid['model']}", "", "![](int8-share.svg)", "", *grid_table(results)])


def share_plot(results):
    grid = results.spec.grid
    panels = []
    for w4 in grid["axes"]["w4"]:
        lines = []
        for i, scale in enumerate(grid["axes"]["act_scale"]):
            for method in grid["axes"]["weights"]:
                rows = [results.grid_row({"act_scale": scale, "w4": w4, "int8": share, "weights": method})
                        for share in grid["axes"]["int8"]]
                points = [(r["int8_share"], r["loss_percent"], *r["loss_interval"]) for r in rows if r and "loss_percent" in r]
                if points:
                    lines.append((f"{scale}, {method}", i, method == "clip", sorted(points)))
        panels.append((f"{w4} weight scales", lines))
    return svg.curves("Loss against INT8 share", "Percent of BF16 perplexity lost, with paired 95 % intervals; "
                      f"{grid['model']}, KV4 without a BF16 window", panels,
                      "share of multiply-accumulates with 8-bit activations", "loss against BF16")


def recipe_plot(results):
    names = list(dict.fromkeys(row.name for row in results.spec.rows if not row.axes and row.name != results.spec.json["base"]))
    table = []
    for name in names:
        points = {model: (row["loss_percent"], *row["loss_interval"]) for model in results.spec.models
                  for row in [results.rows.get(f"{model}/{name}")] if row and "loss_percent" in row}
        if points:
            table.append((name, points))
    return svg.dots("Recipes", "Percent of BF16 perplexity of the same model lost, with paired 95 % intervals (log scale)",
                    list(results.spec.models), table, "loss against BF16")


def write(results, folder, num_tokens):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results.json(num_tokens), indent=1) + "\n")
    (folder / "int8-share.svg").write_text(share_plot(results))
    (folder / "recipes.svg").write_text(recipe_plot(results))
    readme = folder / "README.md"
    text = readme.read_text() if readme.exists() else f"{BEGIN}\n{END}\n"
    text = re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: f"{BEGIN}\n{generated(results)}\n{END}", text, flags=re.S)
    readme.write_text(text)


def print_checks(results):
    for check in results.checks:
        print(f"{check['verdict']:<8} {check['level']:<5} {check['text']}: {check['figure']}")
