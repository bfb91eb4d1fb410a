#!/usr/bin/env python3
"""Compares `comet eval` with lm-evaluation-harness itself on the same model and documents.

The real package asks a running `comet serve` by way of its `local-completions`, with its own task
files (tools/lm_eval_tasks includes them from the package, offline, on local JSON); `comet eval`
scores the same documents. Prints a table and exits 1 unless every accuracy is equal to the last digit.

Needs the package in a Python of its own:
  python3 -m venv .cache/lm_eval_venv && .cache/lm_eval_venv/bin/pip install lm_eval==0.4.13 tenacity
  .cache/lm_eval_venv/bin/python tools/lm_eval_agreement.py build/bin/comet models/demo --data DIR

With --golden FILE it writes what lm_eval said of every document instead (tests/data/lm_eval).
"""
import argparse
import contextlib
import csv
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
MMLU_SUBJECTS = ("anatomy", "astronomy")
TASKS = ("arc_easy", "arc_challenge", "hellaswag", "piqa", "winogrande", "boolq", "openbookqa",
         "lambada_openai", "truthfulqa_mc1", "truthfulqa_mc2")
# lm_eval's names -> comet's.
METRICS = {"acc,none": "acc", "acc_norm,none": "acc_norm", "perplexity,none": "perplexity",
           "exact_match,strict-match": "exact_match", "exact_match,flexible-extract": "exact_match_flexible",
           "word_perplexity,none": "word_perplexity", "byte_perplexity,none": "byte_perplexity",
           "bits_per_byte,none": "bits_per_byte"}
EXACT = ("acc", "acc_norm", "exact_match", "exact_match_flexible")  # the others are real numbers


# The data folder's layouts as Hugging Face has them.

def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def arc_rows(path):
    for row in lines(path):
        choices = row["question"]["choices"]
        yield {"question": row["question"]["stem"], "answerKey": row["answerKey"],
               "choices": {"text": [c["text"] for c in choices], "label": [c["label"] for c in choices]}}


def mmlu_rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield {"question": row["question"], "choices": [row[f"choice{i}"] for i in range(4)],
                   "answer": int(row["answer"])}


def truthfulqa_rows(path):
    for row in json.loads(path.read_text(encoding="utf-8")):
        targets = {key: {"choices": list(row[key]), "labels": list(row[key].values())}
                   for key in ("mc1_targets", "mc2_targets")}
        yield {"question": row["question"], **targets}


def wikitext_rows(path):
    """Pages as the Hugging Face set wikitext_document_level cuts them."""
    page = ""
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        heading = line.replace("= = =", "===").replace("= =", "==").strip()
        if heading.startswith("= ") and heading.endswith(" =") and page:
            if page.strip():
                yield {"page": page}
            page = ""
        page += line
    yield {"page": page}


def piqa_rows(folder):
    labels = (folder / "valid-labels.lst").read_text().split()
    return [dict(row, label=int(label)) for row, label in zip(lines(folder / "valid.jsonl"), labels, strict=True)]


def splits(data, task):
    """{split: rows} of a task."""
    if task.startswith("arc_"):
        stem = {"arc_easy": "ARC-Easy", "arc_challenge": "ARC-Challenge"}[task]
        return {"test": arc_rows(data / task / f"{stem}-Test.jsonl"),
                "validation": arc_rows(data / task / f"{stem}-Dev.jsonl")}
    if task.startswith("truthfulqa"):
        return {"validation": truthfulqa_rows(data / "truthfulqa/mc_task.json")}
    if task.startswith("mmlu_"):
        subject = task.removeprefix("mmlu_")
        return {split: mmlu_rows(data / f"mmlu/{split}/{subject}_{split}.csv") for split in ("test", "dev")}
    return {
        "hellaswag": lambda: {"validation": lines(data / "hellaswag/hellaswag_val.jsonl")},
        "piqa": lambda: {"validation": piqa_rows(data / "piqa")},
        "winogrande": lambda: {"validation": lines(data / "winogrande/dev.jsonl")},
        "boolq": lambda: {"validation": [dict(row, label=int(row["label"])) for row in lines(data / "boolq/val.jsonl")]},
        "openbookqa": lambda: {"test": lines(data / "openbookqa/test.jsonl")},
        "lambada_openai": lambda: {"test": lines(data / "lambada/lambada_test_openai.jsonl")},
        "gsm8k": lambda: {"test": lines(data / "gsm8k/test.jsonl"), "train": lines(data / "gsm8k/fewshot_train64.jsonl")},
        "wikitext": lambda: {"test": wikitext_rows(data / "wikitext2/wiki.test.raw")},
    }[task]()


def prepare(data, tasks, folder):
    """Rows and task files in `folder`."""
    import lm_eval
    package = pathlib.Path(lm_eval.__file__).parent
    for task in tasks:
        folder.joinpath(task).mkdir()
        for split, rows in splits(data, task).items():
            with open(folder / task / f"{split}.jsonl", "w", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
        text = (ROOT / f"tools/lm_eval_tasks/{task}.yaml").read_text()
        text = text.replace("@LM_EVAL@", str(package)).replace("@DATA@", str(folder))
        (folder / f"{task}.yaml").write_text(text)


@contextlib.contextmanager
def serving(comet, model):
    """The URL of a `comet serve` of the model."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([comet, "serve", model, "--port", "0"], stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            for line in process.stdout:
                if match := re.search(r"http://127\.0\.0\.1:\d+", line):
                    break
            else:
                log.seek(0)
                sys.exit(f"comet serve did not start:\n{log.read()}")
            yield match.group(0)
        finally:
            process.terminate()
            process.wait()


def run_lm_eval(arguments, tasks, folder):
    """{task: (metrics, samples)} as the package has them."""
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_HOME=str(folder / "cache"), TOKENIZERS_PARALLELISM="false")
    import lm_eval
    from lm_eval.tasks import TaskManager
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    with serving(arguments.comet, arguments.model) as url:
        results = lm_eval.simple_evaluate(
            model="local-completions",
            model_args={"base_url": f"{url}/v1/completions", "model": pathlib.Path(arguments.model).resolve().name,
                        "tokenizer_backend": "remote", "max_length": arguments.max_length + 1,
                        "num_concurrent": 1, "batch_size": 16},
            tasks=[f"comet_{task}" for task in tasks], task_manager=manager, limit=arguments.limit or None,
            num_fewshot=arguments.shots, log_samples=True, bootstrap_iters=100000)
    return {task: (results["results"][f"comet_{task}"], results["samples"][f"comet_{task}"]) for task in tasks}


def run_comet(arguments, tasks, folder):
    """{task: metrics} of `comet eval`; a subject of mmlu is a task."""
    data = folder / "data"
    data.mkdir()
    for entry in pathlib.Path(arguments.data).resolve().iterdir():
        if entry.name != "mmlu":
            (data / entry.name).symlink_to(entry)
    for split in ("test", "dev"):  # only the subjects that are asked for
        (data / "mmlu" / split).mkdir(parents=True)
        for task in tasks:
            if task.startswith("mmlu_"):
                name = f"{task.removeprefix('mmlu_')}_{split}.csv"
                (data / "mmlu" / split / name).symlink_to(pathlib.Path(arguments.data).resolve() / "mmlu" / split / name)
    names = list(dict.fromkeys("mmlu" if task.startswith("mmlu_") else task for task in tasks))

    def evaluate(names, max_length, shots):
        out = folder / "comet.json"
        command = [arguments.comet, "eval", arguments.model, "--tasks", ",".join(names), "--data", data,
                   "--json", out, "--quiet", "--log-samples", "--max-length", max_length]
        command += ["--limit", arguments.limit] if arguments.limit else []
        command += ["--shots", shots] if shots is not None else []
        subprocess.run([str(word) for word in command], check=True)
        return json.loads(out.read_text())["result"]["tasks"]

    results = {}
    if "wikitext" in names:  # local-completions rolls with windows of one token less
        names.remove("wikitext")
        results["wikitext"] = evaluate(["wikitext"], arguments.max_length - 1, None)["wikitext2"]
    if names:
        results.update(evaluate(names, arguments.max_length, arguments.shots))
    for subject, metrics in results.get("mmlu", {}).get("subjects", {}).items():
        results[f"mmlu_{subject}"] = metrics
    return results


def answers_of(samples):
    """lm_eval's [[log-probability, greedy], …] or text of each document, in their order."""
    out = []
    seen = set()
    for sample in sorted(samples, key=lambda s: s["doc_id"]):
        if sample["doc_id"] in seen:  # a second filter over the same answer
            continue
        seen.add(sample["doc_id"])
        responses = [response[0] for response in sample["resps"]]
        out.append(responses[0] if isinstance(responses[0], str) else [[r[0], bool(r[1])] for r in responses])
    return out


def largest_difference(theirs, ours):
    """Of log-probabilities; texts differ by 0 or infinity."""
    largest = 0.0
    for a, b in zip(theirs, ours, strict=True):
        if isinstance(a, str):
            largest = max(largest, 0.0 if a == b else math.inf)
        else:
            largest = max([largest] + [abs(x[0] - y[0]) for x, y in zip(a, b, strict=True)])
    return largest


def compare(task, theirs, samples, ours):
    """Rows of the table; whether all is equal."""
    all_equal = True
    difference = "-"
    if "answers" in ours.get("samples", {}):
        difference = f"{largest_difference(answers_of(samples), ours['samples']['answers']):.1e}"
    for key, name in METRICS.items():
        if key not in theirs or name not in ours:
            continue
        error = theirs.get(key.replace(",", "_stderr,"), "N/A")
        own_error = ours.get(f"{name}_stderr")
        equal = theirs[key] == ours[name] if name in EXACT and "mc2" not in task else \
            math.isclose(theirs[key], ours[name], rel_tol=1e-5)
        errors = f"{error:.6f} | {own_error:.6f}" if isinstance(error, float) and own_error is not None else "- | -"
        if errors != "- | -":
            equal = equal and math.isclose(error, own_error, rel_tol=1e-4)
        print(f"| {task} | {name} | {theirs[key]:.6f} | {ours[name]:.6f} | {errors} | {difference} | {'equal' if equal else 'DIFFERENT'} |")
        all_equal = all_equal and equal
    return all_equal


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comet")
    parser.add_argument("model")
    parser.add_argument("--data", required=True, help="folder of the tasks' files")
    parser.add_argument("--tasks", default=",".join(TASKS), help=f"of {', '.join(TASKS)}, gsm8k, wikitext, mmlu_SUBJECT")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--shots", type=int)
    parser.add_argument("--max-length", type=int, default=1023, help="tokens of prompt and answer; the server wants one more")
    parser.add_argument("--golden", help="write lm_eval's answers to this file and compare nothing")
    arguments = parser.parse_args()
    tasks = arguments.tasks.split(",")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        prepare(pathlib.Path(arguments.data), tasks, folder)
        theirs = run_lm_eval(arguments, tasks, folder)
        if arguments.golden:
            golden = {task: {"metrics": {METRICS[k]: v for k, v in metrics.items() if k in METRICS},
                             "answers": answers_of(samples)} for task, (metrics, samples) in theirs.items()}
            pathlib.Path(arguments.golden).write_text(json.dumps(golden, sort_keys=True) + "\n")
            return 0
        ours = run_comet(arguments, tasks, folder)
        print("| task | metric | lm_eval | comet eval | stderr, lm_eval | stderr, comet | largest difference of an answer | |")
        print("|---|---|---|---|---|---|---|---|")
        results = [compare(task, *theirs[task], ours[task]) for task in tasks]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
