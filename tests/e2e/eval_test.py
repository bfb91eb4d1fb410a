#!/usr/bin/env python3
"""`comet eval` on accuracy tasks from outside: the shape of its result, kill -9 and --resume, bad input.

That the figures are lm_eval's is tested where they are made (src/comet/study/tasks).

usage: eval_test.py BINARY SOURCE_DIR [unittest arguments]
"""
import json
import math
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

BINARY, SOURCE = sys.argv[1], pathlib.Path(sys.argv[2])
DEMO = SOURCE / "models/demo"
DATA = SOURCE / "tests/data/lm_eval"
HANG_SECONDS = 1200  # far beyond what a sanitized build on a busy machine needs


def comet_eval(*arguments, model=DEMO, data=DATA):
    return subprocess.run([BINARY, "eval", model, "--data", data, *map(str, arguments)], capture_output=True, text=True,
                          timeout=HANG_SECONDS)


def tasks_of(process):
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)["result"]["tasks"]


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="comet-e2e-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def assert_fails(self, process, *parts, code):
        self.assertEqual(process.returncode, code, process.stderr)
        errors = [line for line in process.stderr.splitlines() if "error" in line]
        self.assertEqual(len(errors), 1, process.stderr)
        for part in parts:
            self.assertIn(part, process.stderr)


class Results(Case):
    def test_shape(self):
        names = "arc_easy,hellaswag,winogrande,lambada,mmlu,truthfulqa_mc2,wikitext,gsm8k"
        tasks = tasks_of(comet_eval("--tasks", names, "--json", "-", "--max-length", 200, "--limit", 2))
        self.assertEqual(set(tasks), {"arc_easy", "hellaswag", "winogrande", "lambada_openai", "mmlu", "truthfulqa_mc2",
                                      "wikitext2", "gsm8k"})
        for name in ("acc", "acc_norm", "acc_bytes"):
            self.assertIn(tasks["arc_easy"][name], (0, 0.5, 1))
            self.assertAlmostEqual(tasks["arc_easy"][f"{name}_stderr"], 0.5 if tasks["arc_easy"][name] == 0.5 else 0)
            self.assertEqual(sum(tasks["arc_easy"]["samples"][name]) / 2, tasks["arc_easy"][name])
        self.assertEqual(tasks["arc_easy"]["num_samples"], 2)
        self.assertNotIn("answers", tasks["arc_easy"]["samples"])
        self.assertNotIn("acc_norm", tasks["winogrande"])
        self.assertGreater(tasks["lambada_openai"]["perplexity"], 1)
        self.assertGreater(tasks["lambada_openai"]["perplexity_stderr"], 0)
        subjects = tasks["mmlu"]["subjects"]
        self.assertEqual(set(subjects), {"anatomy", "astronomy"})
        self.assertEqual(tasks["mmlu"]["num_samples"], 4)
        self.assertAlmostEqual(tasks["mmlu"]["acc"], sum(s["acc"] for s in subjects.values()) / 2)
        self.assertGreater(tasks["wikitext2"]["word_perplexity"], 1)
        self.assertEqual(tasks["gsm8k"]["num_shots"], 5)
        self.assertIn("exact_match_flexible", tasks["gsm8k"])

    def test_one_document_has_no_standard_error(self):
        tasks = tasks_of(comet_eval("--tasks", "arc_easy", "--limit", 1, "--json", "-", "--log-samples"))
        self.assertIsNone(tasks["arc_easy"]["acc_stderr"])
        [answers] = tasks["arc_easy"]["samples"]["answers"]
        self.assertEqual(len(answers), 4)
        self.assertTrue(all(x < 0 and math.isfinite(x) and greedy in (True, False) for x, greedy in answers))

    def test_text_for_people(self):
        process = comet_eval("--tasks", "piqa", "--shots", 0)
        self.assertEqual(process.returncode, 0, process.stderr)
        for part in ("piqa", "acc_norm", "±", "num_samples"):
            self.assertIn(part, process.stdout)


class Resume(Case):
    def test_a_killed_run_goes_on_and_ends_the_same(self):
        data = self.folder / "data"
        (data / "arc_easy").mkdir(parents=True)
        rows = [json.loads(line) for line in (DATA / "arc_easy/ARC-Easy-Test.jsonl").read_text().splitlines()]
        with open(data / "arc_easy/ARC-Easy-Test.jsonl", "w") as file:
            for i in range(500):
                row = json.loads(json.dumps(rows[i % len(rows)]))
                row["question"]["stem"] += f" ({i})" + " Think well." * (i % 7)
                file.write(json.dumps(row) + "\n")
        arguments = ["--tasks", "arc_easy", "--resume", self.folder / "answers", "--json", self.folder / "out.json"]
        process = subprocess.Popen([BINARY, "eval", DEMO, "--data", data, *map(str, arguments)], stderr=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL)
        answers = self.folder / "answers"
        while process.poll() is None and not (answers.exists() and answers.read_bytes().count(b"\n") >= 2):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assertFalse((self.folder / "out.json").exists(), "it was not killed in time: more rows are needed")
        begun = answers.read_bytes()
        with open(answers, "ab") as file:
            file.write(b'{"key": "torn')
        self.assertEqual(comet_eval(*arguments, data=data).returncode, 0)
        self.assertTrue(answers.read_bytes().startswith(begun[:begun.rindex(b"\n") + 1]))
        resumed = json.loads((self.folder / "out.json").read_text())["result"]
        whole = comet_eval("--tasks", "arc_easy", "--json", "-", data=data)
        self.assertEqual(json.loads(whole.stdout)["result"], resumed)
        # A third run has nothing left to ask.
        size = answers.stat().st_size
        self.assertEqual(comet_eval(*arguments, data=data).returncode, 0)
        self.assertEqual(answers.stat().st_size, size)

    def test_a_file_of_something_else_is_left_alone(self):
        other = self.folder / "notes"
        other.write_text("mine\n")
        self.assert_fails(comet_eval("--tasks", "piqa", "--resume", other), "notes", "not a file of answers", code=1)
        self.assertEqual(other.read_text(), "mine\n")


class BadInput(Case):
    def test_flags(self):
        self.assert_fails(comet_eval("--tasks", "arc_hard"), "arc_hard", "arc_challenge", "humaneval", code=2)
        self.assertEqual(comet_eval("--tasks", "piqa", "--limit", 0).returncode, 2)
        self.assertEqual(comet_eval("--tasks", "piqa", "--limit", -3).returncode, 2)
        self.assert_fails(comet_eval("--tasks", "piqa", "--max-length", 5000), "--max-length", "1024", code=2)
        self.assert_fails(comet_eval("--tasks", "lambada", "--shots", 3), "lambada_openai", "few-shot", code=2)
        self.assert_fails(comet_eval("--tasks", "piqa", "--num-tokens", 5), "--num-tokens", code=2)
        self.assert_fails(comet_eval("--tasks", "gsm8k", "--shots", 60), "fewshot_train64.jsonl", "7 examples", code=2)
        self.assert_fails(comet_eval("--tasks", "humaneval"), "--allow-code-execution", code=2)

    def test_files(self):
        self.assert_fails(comet_eval("--tasks", "piqa", data=self.folder), "piqa/valid.jsonl", code=1)
        self.assert_fails(comet_eval("--tasks", "piqa", "--shots", 1), "piqa/train.jsonl", code=1)
        (self.folder / "piqa").mkdir()
        broken = self.folder / "piqa/valid.jsonl"
        broken.write_text('{"goal": "g", "sol1": "a", "sol2": "b", "label": 0}\n{"goal": \n')
        self.assert_fails(comet_eval("--tasks", "piqa", data=self.folder), "valid.jsonl:2", "not valid JSON", code=1)
        broken.write_text('{"goal": "g", "sol1": "a", "label": 0}\n')
        self.assert_fails(comet_eval("--tasks", "piqa", data=self.folder), "valid.jsonl:1", "'sol2'", code=1)
        # Before the model is opened: nothing is lost that took time.
        self.assert_fails(comet_eval("--tasks", "piqa", data=self.folder, model="/nowhere"), "valid.jsonl:1", code=1)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
