#!/usr/bin/env python3
"""The tables of a study's results.json as Markdown: a row a format, a column a figure. A study without any
quality has tables of latency, of queries a second, and of where the best format changes (study_serving.py).

usage: tools/study_table.py RESULTS.json...     prints the tables
       tools/study_table.py --write | --check   renews the committed tables, or says which are stale

A committed table stands between <!-- study_table RESULTS.json... --> and <!-- study_table end -->, with
paths from the repository's root. Behind ± stands the standard error: of a top-1 agreement the binomial
one of its tokens, of everything else the row's own (lm_eval defines none for perplexity per word). A
figure in brackets is relative to the first format of the model.
"""
import json
import math
import pathlib
import re
import sys

import study_serving

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = ("README.md", "docs/formats.md", "studies/bf16-or-death/README.md", "studies/bf16-or-death-h200/README.md")
MARKED = re.compile(r"(<!-- study_table ((?:\S+\.json ?)+)-->\n).*?(\n<!-- study_table end -->)", re.DOTALL)

# (column, end of the row's metric, factor, digits, whether the loss against the first format is shown)
COLUMNS = (
    ("size, MB", "size", 1e-6, 1, False),
    ("held-out perplexity", "heldout.txt/token_perplexity", 1, 2, True),
    ("KL", "heldout.txt/kl_mean", 1, 4, False),
    ("top-1, %", "heldout.txt/top1_agreement", 100, 1, False),
    ("WikiText-2 perplexity", "wikitext2/token_perplexity", 1, 2, True),
    ("per word", "wikitext2/word_perplexity", 1, 2, False),
    ("arc_easy", "arc_easy/acc", 100, 1, False),
    ("piqa", "piqa/acc", 100, 1, False),
    ("hellaswag", "hellaswag/acc_norm", 100, 1, False),
    ("lambada", "lambada/acc", 100, 1, False),
)


def standard_error(row):
    if row["stderr"] is None and row["metric"].endswith("/top1_agreement"):
        return math.sqrt(row["value"] * (1 - row["value"]) / row["n"])
    return row["stderr"]


def cell(row, base, column):
    _, _, factor, digits, has_loss = column
    if row is None:
        return "–"
    text = f"{row['value'] * factor:.{digits}f}"
    error = standard_error(row)
    if error is not None and not math.isnan(error):
        text += f" ± {error * factor:.{digits}f}"
    if has_loss and base is not None and base is not row:
        text += f" ({100 * (row['value'] / base['value'] - 1):+.1f} %)"
    return text


def table(rows, model):
    formats = list(dict.fromkeys(row["format"] for row in rows if row["model"] == model))

    def find(name, ending):
        return next((row for row in rows if (row["model"], row["format"]) == (model, name)
                     and (row["metric"] == ending or row["metric"].endswith("/" + ending))), None)

    columns = [c for c in COLUMNS if any(find(name, c[1]) for name in formats)]
    lines = ["| " + " | ".join([model] + [c[0] for c in columns]) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in formats:
        cells = [cell(find(name, c[1]), find(formats[0], c[1]), c) for c in columns]
        lines.append("| " + " | ".join([name] + cells) + " |")
    return "\n".join(lines)


def tables(paths):
    texts = []
    for path in paths:
        if not pathlib.Path(path).is_file():
            texts.append("(not measured yet)")
            continue
        results = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        rows = results["rows"]
        if not any(row["metric"].endswith(c[1]) for row in rows for c in COLUMNS):
            texts += study_serving.tables(results)
            continue
        texts += [table(rows, model) for model in dict.fromkeys(row["model"] for row in rows)]
    return "\n\n".join(texts)


def renewed(page):
    """The page's text, and what it is with the tables of today's results."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if not MARKED.search(text):
        sys.exit(f"study_table: {page}: no <!-- study_table RESULTS.json --> … <!-- study_table end -->")
    return text, MARKED.sub(lambda m: m[1] + tables(ROOT / p for p in m[2].split()) + m[3], text)


def main():
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.exit(__doc__.strip())
    if arguments not in (["--write"], ["--check"]):
        print(tables(arguments))
        return
    stale = [page for page in PAGES if len(set(renewed(page))) > 1]
    if arguments == ["--check"]:
        if stale:
            sys.exit(f"study_table: {', '.join(stale)}: not as results.json; run tools/study_table.py --write")
        return
    for page in stale:
        (ROOT / page).write_text(renewed(page)[1], encoding="utf-8")
        print(f"study_table: {page}")


if __name__ == "__main__":
    main()
