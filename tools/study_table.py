#!/usr/bin/env python3
"""The table of a study's results.json as Markdown, for README and docs: a row a format, a column a figure.

usage: tools/study_table.py RESULTS.json [MODEL...]
Behind ± stands the standard error; a figure in brackets is relative to the first format of the model.
"""
import json
import math
import sys

# (column, end of the row's metric, factor, digits, whether the loss against the first format is shown)
COLUMNS = (
    ("size, MB", "size", 1e-6, 1, False),
    ("held-out perplexity", "heldout.txt/token_perplexity", 1, 2, True),
    ("KL", "heldout.txt/kl_mean", 1, 4, False),
    ("top-1, %", "heldout.txt/top1_agreement", 100, 1, False),
    ("WikiText-2 perplexity", "wikitext2/token_perplexity", 1, 2, True),
    ("arc_easy", "arc_easy/acc", 100, 1, False),
    ("piqa", "piqa/acc", 100, 1, False),
    ("hellaswag", "hellaswag/acc_norm", 100, 1, False),
    ("lambada", "lambada/acc", 100, 1, False),
)


def cell(row, base, column):
    _, _, factor, digits, has_loss = column
    if row is None:
        return "–"
    text = f"{row['value'] * factor:.{digits}f}"
    if row["stderr"] is not None and not math.isnan(row["stderr"]):
        text += f" ± {row['stderr'] * factor:.{digits}f}"
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


def main():
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__.strip())
    with open(sys.argv[1], encoding="utf-8") as file:
        rows = json.load(file)["rows"]
    models = sys.argv[2:] or list(dict.fromkeys(row["model"] for row in rows))
    print("\n\n".join(table(rows, model) for model in models))


if __name__ == "__main__":
    main()
