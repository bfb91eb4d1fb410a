"""Tables of a study that measures speed alone, as Markdown: latency one query at a time, queries a second, cost, and
where the best format changes. Used by study_table.py; the paper's figures of the nearest card stand beside ours.
"""
TITLES = {"docstring": "docstring 768/128", "code-completion": "code completion 256/1024",
          "code-fixing": "code fixing 1024/1024", "rag": "RAG 1024/128", "instruction": "instruction 256/128",
          "chat": "chat 512/256", "summarization": "summarization 4096/512"}
# The card of DeepSeek-R1-Distill-Llama-8B, one H100, vLLM 0.7.2: the same shapes and use cases, by the paper's authors.
H100 = {"sync/latency_mean": {
            "BF16": {"instruction": 1.0, "chat": 1.9, "docstring": 1.0, "rag": 1.0, "code-completion": 7.6, "code-fixing": 7.7,
                     "summarization": 4.1},
            "W8A8-FP": {"instruction": 0.7, "chat": 1.4, "docstring": 0.7, "rag": 0.7, "code-completion": 5.7,
                        "code-fixing": 5.8, "summarization": 3.2},
            "W4A16-INT": {"instruction": 0.7, "chat": 1.4, "docstring": 0.7, "rag": 0.7, "code-completion": 5.6,
                          "code-fixing": 5.7, "summarization": 3.1}},
        "async/max_queries_per_s": {
            "BF16": {"instruction": 49.0, "chat": 22.6, "docstring": 28.3, "rag": 22.9, "code-completion": 7.2,
                     "code-fixing": 5.1, "summarization": 3.6},
            "W8A8-FP": {"instruction": 57.1, "chat": 26.0, "docstring": 34.5, "rag": 28.7, "code-completion": 7.2,
                        "code-fixing": 5.4, "summarization": 4.3},
            "W4A16-INT": {"instruction": 49.8, "chat": 22.9, "docstring": 28.5, "rag": 23.0, "code-completion": 6.8,
                          "code-fixing": 5.0, "summarization": 3.7}}}


class Rows:
    def __init__(self, results):
        self.rows = results["rows"]
        spec = results["spec"]
        self.formats = [f.get("name", f["format"]) for f in spec["formats"]]
        self.profiles = spec["profiles"]

    def find(self, model, name, metric, profile):
        return next((r for r in self.rows if (r["model"], r["format"], r["metric"], r["profile"]) ==
                     (model, name, metric, profile) and "rate" not in r), None)

    def curve(self, model, name, profile):
        """{rate: mean time between tokens}; one query at a time stands at rate 0."""
        points = {r["rate"]: r["value"] for r in self.rows if (r["model"], r["format"], r["metric"], r["profile"]) ==
                  (model, name, "async/itl_mean", profile)}
        alone = self.find(model, name, "sync/itl_mean", profile)
        return {**({0: alone["value"]} if alone else {}), **points}


def queries(per_dollar):
    return f"{per_dollar / 1000:.1f}k" if per_dollar >= 1000 else f"{per_dollar:.0f}"


def figure_table(rows, model, metric, corner, text):
    lines = ["| " + " | ".join([corner] + [TITLES.get(p, p) for p in rows.profiles] + ["against BF16"]) + " |",
             "|---" * (len(rows.profiles) + 2) + "|"]
    kind = metric.split("/")[0]
    costs = {}
    for name in rows.formats:
        cells = []
        for profile in rows.profiles:
            row = rows.find(model, name, metric, profile)
            cost = rows.find(model, name, kind + "/cost_per_query", profile)
            costs[name, profile] = cost and cost["value"]
            cells.append("–" if row is None else text(row) + (f" ({queries(1 / cost['value'])})" if cost else ""))
        shares = [costs[rows.formats[0], p] / costs[name, p] for p in rows.profiles
                  if costs[name, p] and costs[rows.formats[0], p]]
        cells.append(f"{sum(shares) / len(shares):.2f}×" if shares else "–")
        lines.append("| " + " | ".join([name] + cells) + " |")
    for name, values in H100.get(metric, {}).items() if model == "llama3-8b" else ():
        cells = [f"{values[p]:g}" for p in rows.profiles]
        lines.append("| " + " | ".join([f"*{name}, vLLM on an H100*"] + cells + [""]) + " |")
    return "\n".join(lines)


def latency(row):
    error = f" ± {row['stderr'] / 1000:.3f}" if row["stderr"] and row["n"] > 1 else ""
    return f"{row['value'] / 1000:.3f}{error} s"


def rate(row):
    return f"{row['value']:.1f}/s"


def value_at(curve, x):
    rates = sorted(curve)
    for low, high in zip(rates, rates[1:]):
        if low <= x <= high:
            return curve[low] + (curve[high] - curve[low]) * (x - low) / (high - low)
    return None


def changes(curves):
    """[(rate from which on, format with the shortest time between tokens)], by straight lines between points, as far as two
    formats or more are known."""
    ends = sorted(max(curve) for curve in curves.values() if curve)
    if len(ends) < 2:
        return []
    found = []
    steps = 2000
    for i in range(steps + 1):
        x = ends[-2] * i / steps
        known = {name: value_at(curve, x) for name, curve in curves.items()}
        known = {name: value for name, value in known.items() if value is not None}
        if len(known) < 2:
            continue
        best = min(known, key=known.get)
        if not found or found[-1][1] != best:
            found.append((x, best))
    return found


def flips(rows, model):
    lines = ["| use case | cheapest one at a time | cheapest many at once | shortest time between tokens, by offered rate |",
             "|---|---|---|---|"]
    for profile in rows.profiles:
        cells = [TITLES.get(profile, profile)]
        for kind in ("sync", "async"):
            costs = {n: rows.find(model, n, kind + "/cost_per_query", profile) for n in rows.formats}
            costs = {n: row["value"] for n, row in costs.items() if row}
            order = sorted(costs, key=costs.get)
            cell = "–"
            if order:
                cell = f"{order[0]}, ${1000 * costs[order[0]]:.3g} per 1,000"
            if len(order) > 1:
                cell += f" (then {order[1]}, +{100 * (costs[order[1]] / costs[order[0]] - 1):.0f} %)"
            cells.append(cell)
        steps = changes({n: rows.curve(model, n, profile) for n in rows.formats})
        cells.append(", ".join(f"{name} from {x:.3g}/s" if x else name for x, name in steps) or "–")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def tables(results):
    rows = Rows(results)
    texts = []
    for model in dict.fromkeys(row["model"] for row in rows.rows):
        texts += [figure_table(rows, model, "sync/latency_mean", f"{model}, one at a time: latency (queries a dollar)", latency),
                  figure_table(rows, model, "async/max_queries_per_s",
                               f"{model}, many at once: queries a second (a dollar)", rate),
                  flips(rows, model)]
    return texts
