#!/usr/bin/env python3
"""`comet study` from outside: a small study of the demo model, killed and resumed, its server killed, its report against
its results, and what it says of specs that are wrong.

usage: study_test.py BINARY SOURCE_DIR [unittest arguments]
"""
import html.parser
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

BINARY, SOURCE = sys.argv[1], pathlib.Path(sys.argv[2])
TIMEOUT = 600  # far beyond what an overloaded machine needs

SPEC = {
    "models": [str(SOURCE / "models/demo")],
    "formats": [{"format": "bf16"}, {"format": "w4a16", "weights": "rtn", "name": "w4a16 & <rtn>"}],
    "quantize": {"calib_samples": 2, "calib_length": 64},
    "metrics": ["size", f"text:{SOURCE}/models/demo/heldout.txt", "similarity", "sync", "async"],
    "profiles": ["chat", "rag"],
    "profile_scale": 0.03,
    "prompts": "prompts.txt",
    "similarity_tokens": 8,
    "machine": {"name": "a test's machine", "price_per_hour": 0.1},
    "slo": {"ttft_p99_ms": 60000, "itl_p99_ms": 60000},
    "num_tokens": 256,
    "sync": {"num_requests": 3, "duration_s": 5},
    "async": {"num_requests": 4, "duration_s": 5},
    "max_rates": 2,
    "accuracy_floor": 0.2,
}
CELLS = ["size", "text", "sync chat", "sync rag", "async chat", "async rag"]


class Figures(html.parser.HTMLParser):
    """Every element with data-row: (row, data-value or None, its text)."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.assets, self.ids, self.links = [], None, [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids.add(attributes.get("id"))
        self.assets += [attributes[name] for name in ("src", "srcset", "data") if name in attributes]
        if tag == "link":
            self.assets.append(attributes.get("href"))
        if tag == "a":
            self.links.append(attributes["href"])
        if "data-row" in attributes:
            self.found.append([int(attributes["data-row"]), attributes.get("data-value"), ""])
            self.open = tag

    def handle_data(self, data):
        if self.open:
            self.found[-1][2] += data

    def handle_endtag(self, tag):
        if tag == self.open:
            self.open = None


class Study(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "prompts.txt").write_text("The river\nOnce upon a time\n")
        self.out = self.folder / "out"

    def command(self, spec, *flags):
        path = self.folder / "spec.json"
        path.write_text(spec if isinstance(spec, str) else json.dumps(spec))
        return [BINARY, "study", str(path), "-o", str(self.out), *flags]

    def study(self, spec, *flags):
        return subprocess.run(self.command(spec, *flags), capture_output=True, text=True, timeout=TIMEOUT)

    def results(self):
        return json.loads((self.out / "results.json").read_text())

    def test_measures_resumes_and_reports(self):
        # Killed in the middle: what is there is whole, and stays as it is.
        process = subprocess.Popen(self.command(SPEC), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + TIMEOUT
        while not (self.out / "results.json").exists() or len(self.results()["done"]) < 4:
            self.assertLess(time.monotonic(), deadline)
            self.assertIsNone(process.poll())
            time.sleep(0.02)
        process.kill()
        process.wait()
        before = self.results()
        done = self.study(SPEC)
        self.assertEqual(done.returncode, 0, done.stderr)
        after = self.results()
        self.assertEqual(after["rows"][: len(before["rows"])], before["rows"])
        self.assertEqual(len(after["done"]), 13)
        self.assertEqual(after["failures"], [])
        self.assertIn(f"{len(before['done'])} kept from before", done.stdout)
        # No server of the killed study is left.
        listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
        self.assertNotIn(str(self.out), listing)
        self.check_rows(after)
        self.check_report(after["rows"])
        # Once more: nothing to do, and the same rows.
        again = self.study(SPEC)
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertEqual(self.results()["rows"], after["rows"])
        self.assertIn("0 of 13 cells measured now", again.stdout)

    def check_rows(self, results):
        rows = results["rows"]
        for row in rows:
            self.assertEqual({"model", "format", "metric", "profile", "value", "stderr", "n", "unit"} - set(row), set())
            self.assertEqual(row["model"], "demo")
        value = {(r["format"], r["metric"], r["profile"]): r["value"] for r in rows if "rate" not in r}
        size = (SOURCE / "models/demo/model.safetensors").stat().st_size
        self.assertEqual(value["bf16", "size", None], size)
        self.assertLess(value["w4a16 & <rtn>", "size", None], size / 2)
        text = f"text:{SOURCE}/models/demo/heldout.txt"
        evaluated = subprocess.run([BINARY, "eval", str(SOURCE / "models/demo"), "--tasks", text, "--num-tokens", "256",
                                    "--json", "-"], capture_output=True, text=True, check=True, timeout=TIMEOUT)
        expected = json.loads(evaluated.stdout)["result"]["tasks"][text]["token_perplexity"]
        self.assertEqual(value["bf16", text + "/token_perplexity", None], expected)
        self.assertGreater(value["w4a16 & <rtn>", text + "/kl_mean", None], 0)
        self.assertNotIn(("bf16", "similarity/rouge1", None), value)
        self.assertLessEqual(value["w4a16 & <rtn>", "similarity/rougeL", None], 1)
        for name in ("bf16", "w4a16 & <rtn>"):
            for profile in ("chat", "rag"):
                latency = value[name, "sync/latency_mean", profile]
                self.assertAlmostEqual(value[name, "sync/cost_per_query", profile], 0.1 / 3600 * latency / 1000, places=15)
                most = value[name, "async/max_queries_per_s", profile]
                if most:  # 0: a busy machine kept up at no rate
                    self.assertAlmostEqual(value[name, "async/cost_per_query", profile], 0.1 / 3600 / most, places=15)
                rates = {r["rate"] for r in rows if r["format"] == name and r["profile"] == profile and "rate" in r}
                self.assertEqual(len(rates), 2)

    def check_report(self, rows):
        page = (self.out / "report.html").read_text()
        figures = Figures(page)
        self.assertEqual(figures.assets, [])
        self.assertNotIn("http://", page)
        for link in figures.links:
            self.assertIn(link[1:], figures.ids)
        shown = 0
        for number, value, text in figures.found:
            row = rows[number]
            if value is None:
                self.assertEqual(text, f"r{number}")
                continue
            shown += 1
            self.assertEqual(float(value), row["value"])
            printed, _, exponent = re.match(r"\$?(-?[\d.]+(?:e[-+]?\d+)?)", text).group(1).partition("e")
            unit = re.search(r"%|kB|MB|GB", text)
            scale = {"%": 100, "kB": 1e-3, "MB": 1e-6, "GB": 1e-9}[unit.group(0)] if unit else 1
            # Half of the last printed digit.
            half_digit = 0.501 * 10.0 ** (int(exponent or 0) - len(printed.partition(".")[2]))
            if "$" in text or "." not in printed:
                half_digit = max(half_digit, 5e-3 * abs(row["value"]) * scale if "$" in text else 0.501)
            shown_value = float(printed) * 10.0 ** int(exponent or 0)
            self.assertLessEqual(abs(shown_value - row["value"] * scale), half_digit, (text, row))
        self.assertGreater(shown, len(rows))
        self.assertIn("choose", page)
        self.assertIn("w4a16 &amp; &lt;rtn&gt;", page)
        # Each sentence of the recommendation names rows.
        lists = re.findall(r'<ul class="statements">(.*?)</ul>', page, re.S)
        sentences = [s for part in lists for s in re.findall(r"<li>(.*?)</li>", part, re.S)]
        self.assertGreater(len(sentences), 3)
        for sentence in sentences:
            self.assertIn("data-row=", sentence)

    def test_a_server_that_dies_costs_a_cell(self):
        spec = {**SPEC, "formats": [{"format": "bf16"}], "metrics": ["sync", "size"], "profiles": ["chat", "rag"],
                "sync": {"duration_s": 6, "num_requests": 1000000}}
        process = subprocess.Popen(self.command(spec), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + TIMEOUT
        killed = False
        while not killed and process.poll() is None:
            self.assertLess(time.monotonic(), deadline)
            children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            ready = list((self.out / "logs").glob("serve-*.json")) if self.out.exists() else []
            if children and ready:
                time.sleep(0.5)
                os.kill(int(children[0]), signal.SIGKILL)
                killed = True
            time.sleep(0.01)
        _, log = process.communicate(timeout=TIMEOUT)
        self.assertTrue(killed)
        self.assertEqual(process.returncode, 1, log)
        results = self.results()
        self.assertEqual([f["cell"]["profile"] for f in results["failures"]], ["chat"])
        self.assertIn("the server died (killed by signal 9)", results["failures"][0]["error"])
        self.assertEqual(len(results["done"]), 2)
        self.assertIn("the server died", (self.out / "report.html").read_text())
        again = self.study(spec)
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertEqual(self.results()["failures"], [])
        self.assertEqual(len(self.results()["done"]), 3)

    def test_wrong_input(self):
        cases = [
            ("{\n\"models\": [,]}", "line 2"),
            ({**SPEC, "metrics": ["speed"]}, "'speed' is not known"),
            ({**SPEC, "profiles": ["poetry"]}, "poetry"),
            ({**SPEC, "formats": [{"format": "w2"}]}, "'w2' is not known"),
            ({**SPEC, "formats": [{"format": "w4a16", "weights": "magic"}]}, "magic"),
            ({**SPEC, "formats": [{"format": "w4a16", "wheels": "4"}]}, "--wheels"),
            ({**SPEC, "models": ["no/such/model"]}, "no/such/model"),
            ({**SPEC, "machine": {"price_per_hour": 0}}, "price_per_hour is 0"),
            ({**SPEC, "metrics": [f"text:{self.folder}/none.txt"]}, "none.txt"),
        ]
        for spec, says in cases:
            done = self.study(spec)
            self.assertNotEqual(done.returncode, 0, says)
            errors = [line for line in done.stderr.splitlines() if "comet: error:" in line]
            self.assertEqual(len(errors), 1, done.stderr)
            self.assertIn(says, errors[0])

    def test_a_profile_beyond_the_context_is_a_failed_cell(self):
        spec = {**SPEC, "formats": [{"format": "bf16"}], "metrics": ["sync"], "profiles": ["summarization"], "profile_scale": 1}
        done = self.study(spec)
        self.assertEqual(done.returncode, 1)
        self.assertIn("4096 + 512", done.stderr)

    def test_results_of_another_spec_are_kept(self):
        spec = {**SPEC, "formats": [{"format": "bf16"}], "metrics": ["size"]}
        self.assertEqual(self.study(spec).returncode, 0)
        before = (self.out / "results.json").read_bytes()
        done = self.study({**spec, "seed": 5})
        self.assertEqual(done.returncode, 2)
        self.assertIn("results of another spec (it differs in: seed)", done.stderr)
        self.assertEqual((self.out / "results.json").read_bytes(), before)

    def test_the_template_is_a_spec(self):
        text = subprocess.run([BINARY, "study", "--template"], capture_output=True, text=True, check=True).stdout
        spec = json.loads(text)
        self.assertLessEqual({"models", "formats", "metrics", "profiles", "machine", "slo", "limit", "seed"}, set(spec))
        done = subprocess.run([BINARY, "study"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
