#!/usr/bin/env python3
"""The binary from outside: the main job on the bundled model, its JSON, and what bad input does to it.

usage: cli_test.py BINARY SOURCE_DIR [unittest arguments]
"""
import filecmp
import json
import math
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

BINARY, SOURCE = sys.argv[1], pathlib.Path(sys.argv[2])
DEMO = SOURCE / "models/demo"
INTERCHANGE = SOURCE / "tests/data/interchange"
HELDOUT = f"text:{DEMO}/heldout.txt"
CALIBRATION = ["--calib-samples", "4", "--calib-length", "128"]


def comet(*arguments, env=None, timeout=600):
    return subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, timeout=timeout,
                          env={**os.environ, **(env or {})})


def result_of(process):
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="comet-e2e-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def quantize(self, out, *arguments, env=None, model=DEMO):
        format_flags = [] if "--format" in arguments else ["--format", "w4ax"]
        return comet("quantize", model, "-o", out, *format_flags, *CALIBRATION, *arguments, env=env)

    def copy_demo(self, name="model"):
        copy = self.folder / name
        shutil.copytree(DEMO, copy)
        return copy

    def assert_fails(self, process, *parts, code=None):
        """Exit code 1 or 2, one line on stderr that holds `parts`, and no crash."""
        self.assertIn(process.returncode, (1, 2) if code is None else (code,), process.stderr)
        errors = [line for line in process.stderr.splitlines() if "error" in line]
        self.assertEqual(len(errors), 1, process.stderr)
        for part in parts:
            self.assertIn(part, process.stderr)


class MainJob(Case):
    def test_quantizes_evaluates_and_writes(self):
        out = self.folder / "out"
        report = result_of(self.quantize(out, "--recipe", "fmpq", "--json", "-"))
        self.assertEqual(report["command"], "quantize")
        self.assertEqual(json.loads((out / "quant_report.json").read_text())["format"], "w4ax")
        info = result_of(comet("info", out, "--json", "-"))["result"]
        # One INT8 block at every site of this model is 28.1 % of the multiply-accumulates.
        self.assertAlmostEqual(info["int4_activation_share"], 1 - 0.281, places=3)
        self.assertAlmostEqual(info["int4_block_share"], 1 - 0.235, places=3)
        self.assertEqual((info["format"], info["kv"], info["act_scale"]), ("w4ax", "kv4", "S2h"))
        perplexity = {}
        for model in (DEMO, out):
            tasks = result_of(comet("eval", model, "--tasks", HELDOUT, "--num-tokens", 2048, "--json", "-"))
            perplexity[model] = tasks["result"]["tasks"][HELDOUT]["token_perplexity"]
        self.assertLess(perplexity[out] / perplexity[DEMO], 1.6)
        self.assertGreater(perplexity[out] / perplexity[DEMO], 1.0)
        written = result_of(comet("generate", out, "-p", "The history of", "-n", 12, "--temperature", 0,
                                  "--ignore-eos", "--json", "-"))
        self.assertEqual(len(written["result"]["tokens"]), 12)
        self.assertEqual(written["result"]["finish_reason"], "length")
        for field in ("comet_version", "git_commit", "machine", "started_at", "seed"):
            self.assertIn(field, written)

    def test_eval_gives_windows_and_divergence_from_a_base(self):
        def task(*arguments):
            process = comet("eval", DEMO, "--tasks", HELDOUT, "--num-tokens", 700, "--max-length", 200, "--json", "-",
                            *arguments)
            return result_of(process)["result"]["tasks"][HELDOUT]

        plain, coarse = task(), task("--kv", "kv4", "--base", DEMO)
        self.assertNotIn("kl_mean", plain)
        for figures in (plain, coarse):
            windows = figures["windows"]
            self.assertEqual(sum(windows["num_tokens"]), 700)
            self.assertAlmostEqual(math.exp(-sum(windows["log_prob_sum"]) / 700), figures["token_perplexity"], places=9)
        self.assertEqual(plain["windows"]["num_tokens"], coarse["windows"]["num_tokens"])
        self.assertAlmostEqual(sum(coarse["windows"]["kl_sum"]) / 700, coarse["kl_mean"], places=12)
        self.assertTrue(0 < coarse["kl_mean"] < 0.3, coarse["kl_mean"])
        self.assertTrue(0.7 < coarse["top1_agreement"] < 1, coarse["top1_agreement"])
        self.assert_fails(comet("eval", DEMO, "--tasks", HELDOUT, "--base", self.folder / "none"), "none")

    def perplexity(self, model):
        tasks = result_of(comet("eval", model, "--tasks", HELDOUT, "--num-tokens", 2048, "--json", "-"))
        return tasks["result"]["tasks"][HELDOUT]["token_perplexity"]

    def test_eight_bit_formats(self):
        before = self.perplexity(DEMO)
        for name, limit in (("w8a8-fp8", 1.05), ("w8a8-int", 1.03)):
            out = self.folder / name
            process = comet("quantize", DEMO, "-o", out, "--format", name, *CALIBRATION, "--json", "-")
            report = result_of(process)["result"]
            self.assertEqual((report["format"], report["kv"], report["act_scale"]), (name, "kv16", "token"))
            self.assertEqual(report["calibration"]["tokens"] == 0, name == "w8a8-fp8")
            self.assertGreater(report["gate_tokens"], 0)
            info = result_of(comet("info", out, "--json", "-"))["result"]
            self.assertEqual((info["format"], info["kv"]), (name, "kv16"))
            self.assertTrue(0.97 < self.perplexity(out) / before < limit, name)
        self.assertEqual(report["smooth"], "auto")
        self.assertTrue(any(layer["smooth"] for layer in report["layers"]))

    def test_w4a16_and_back_to_dense(self):
        out, dense = self.folder / "w4a16", self.folder / "dense"
        report = result_of(comet("quantize", DEMO, "-o", out, "--format", "w4a16", *CALIBRATION, "--json", "-"))
        self.assertEqual((report["result"]["format"], report["result"]["kv"]), ("w4a16", "kv16"))
        config = json.loads((out / "config.json").read_text())
        self.assertEqual(config["quantization_config"]["quant_method"], "compressed-tensors")
        info = result_of(comet("info", out, "--json", "-"))["result"]
        self.assertEqual((info["format"], info["kv"]), ("w4a16", "kv16"))
        before, after = self.perplexity(DEMO), self.perplexity(out)
        self.assertLess(after / before, 1.25)
        self.assertGreater(after / before, 1.0)
        written = result_of(comet("generate", out, "-p", "The history of", "-n", 4, "--temperature", 0,
                                  "--ignore-eos", "--json", "-"))
        self.assertEqual(len(written["result"]["tokens"]), 4)
        left = result_of(comet("export", out, "-o", dense, "--format", "dense", "--json", "-"))
        self.assertEqual(left["command"], "export")
        self.assertNotIn("quantization_config", json.loads((dense / "config.json").read_text()))
        self.assertAlmostEqual(self.perplexity(dense) / after, 1.0, delta=0.005)
        self.assert_fails(comet("export", out, "-o", dense, "--format", "dense"), "--force")
        self.assert_fails(comet("export", out, "-o", self.folder / "ct", "--format", "compressed-tensors"),
                          "already")
        self.assert_fails(comet("export", dense, "-o", self.folder / "d", "--format", "dense"), "dense already")

    def test_w4ax_goes_back_to_dense_too(self):
        out, dense = self.folder / "w4a8", self.folder / "dense"
        self.assertEqual(self.quantize(out, "--recipe", "w4a8", "--kv", "kv16").returncode, 0)
        self.assert_fails(comet("export", out, "-o", dense, "--format", "compressed-tensors"), "--format dense")
        self.assertEqual(comet("export", out, "-o", dense, "--format", "dense").returncode, 0)
        self.assertAlmostEqual(self.perplexity(dense) / self.perplexity(out), 1.0, delta=0.03)

    def test_other_programs_checkpoints_come_in_and_leave(self):
        source, out = INTERCHANGE / "awq_gemm", self.folder / "ct"
        info = result_of(comet("info", INTERCHANGE / "ct_fp8_static", "--json", "-"))["result"]
        self.assertEqual((info["format"], info["kv"]), ("w8a8-fp8", "kv8_fp8"))
        left = result_of(comet("export", source, "-o", out, "--format", "compressed-tensors", "--json", "-"))
        self.assertEqual(left["result"]["format"], "compressed-tensors")
        config = json.loads((out / "config.json").read_text())["quantization_config"]
        weights = config["config_groups"]["group_0"]["weights"]
        self.assertEqual((config["format"], weights["symmetric"], weights["group_size"]), ("pack-quantized", False, 64))
        self.assertEqual(comet("export", out, "-o", self.folder / "d", "--format", "dense").returncode, 0)
        self.assert_fails(comet("export", self.folder / "d", "-o", self.folder / "x", "--format", "compressed-tensors"),
                          "this model is dense")

    def test_files_do_not_depend_on_threads_or_repetition(self):
        outs = [self.folder / name for name in ("one", "two", "again")]
        for out, threads in zip(outs, (1, 2, 2)):
            self.assertEqual(self.quantize(out, "--threads", threads).returncode, 0)
        for out in outs[1:]:
            names = sorted(path.name for path in out.iterdir())
            self.assertEqual(names, sorted(path.name for path in outs[0].iterdir()))
            _, different, errors = filecmp.cmpfiles(outs[0], out, names, shallow=False)
            self.assertEqual((different, errors), ([], []))

    def test_instruction_sets_write_the_same_text(self):
        out = self.folder / "out"
        self.assertEqual(self.quantize(out).returncode, 0)
        tokens = set()
        for isa in ("portable", "avx2", "avx512", "avx512vnni"):
            process = comet("generate", out, "-p", "Water is", "-n", 8, "--temperature", 0, "--json", "-",
                            env={"COMET_CPU": isa})
            if "this machine has at most" in process.stderr:
                continue
            tokens.add(tuple(result_of(process)["result"]["tokens"]))
        self.assertEqual(len(tokens), 1)

    def test_text_goes_to_stdout_and_a_stop_text_ends_it(self):
        full = comet("generate", DEMO, "-p", "Water is", "-n", 24, "--temperature", 0)
        self.assertEqual(full.returncode, 0, full.stderr)
        stop = full.stdout[10:14]
        cut = comet("generate", DEMO, "-p", "Water is", "-n", 24, "--temperature", 0, "--stop", stop)
        self.assertEqual(cut.stdout.rstrip("\n"), full.stdout[: full.stdout.index(stop)])


class KilledQuantize(Case):
    """A run that is broken off keeps every finished layer; --resume ends in the same bytes."""

    COMMAND = ["quantize", str(DEMO), "--format", "w4ax", "--calib-samples", "8", "--calib-length", "256", "--quiet"]

    def start(self, out, *arguments):
        return subprocess.Popen([BINARY, *self.COMMAND, "-o", str(out), *arguments], stderr=subprocess.PIPE, text=True)

    def wait_for_a_layer(self, process, partial):
        """Until one more layer is finished than at the start, or the process has ended."""
        def layer():
            try:
                return json.loads((partial / "resume.json").read_text())["num_layers"]
            except FileNotFoundError:
                return 0
        before, deadline = layer(), time.monotonic() + 300
        while process.poll() is None and layer() <= before:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def assert_same_files(self, folder, other):
        names = sorted(path.name for path in folder.iterdir())
        self.assertEqual(names, sorted(path.name for path in other.iterdir()))
        _, different, errors = filecmp.cmpfiles(folder, other, names, shallow=False)
        self.assertEqual((different, errors), ([], []))

    def test_resumes_to_the_same_bytes_after_kill_and_interrupt(self):
        whole, out = self.folder / "whole", self.folder / "out"
        partial = self.folder / "out.partial"
        process = self.start(whole)
        _, errors = process.communicate()
        self.assertEqual(process.returncode, 0, errors)
        process = self.start(out)
        self.wait_for_a_layer(process, partial)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        self.assertFalse(out.exists())
        self.assertTrue((partial / "resume.json").exists())

        process = self.start(out, "--resume", "--damp", "0.02")
        _, errors = process.communicate()
        self.assertEqual(process.returncode, 2)
        self.assertIn("options/damp was 0.01, is 0.02", errors)

        process = self.start(out, "--resume")
        self.wait_for_a_layer(process, partial)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
        self.assertEqual(process.returncode, 1, errors)
        self.assertRegex(errors, r"interrupted after \d of 7 layers, .*out.partial.*--resume")
        self.assertFalse(out.exists())

        process = self.start(out, "--resume")
        _, errors = process.communicate()
        self.assertEqual(process.returncode, 0, errors)
        self.assert_same_files(whole, out)
        self.assertFalse(partial.exists())

    def test_without_resume_the_next_run_begins_anew(self):
        out = self.folder / "out"
        process = self.start(out)
        self.wait_for_a_layer(process, self.folder / "out.partial")
        process.send_signal(signal.SIGKILL)
        process.communicate()
        self.assertEqual(self.quantize(out).returncode, 0)
        self.assertTrue((out / "config.json").exists())
        self.assertFalse((self.folder / "out.partial").exists())

    def test_the_gate_is_printed_and_reported(self):
        out = self.folder / "out"
        process = self.quantize(out, "--recipe", "naive", "--kv", "kv4")
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertRegex(process.stdout, r"perplexity [\d.]+ before, [\d.]+ after; KL [\d.]+")
        self.assertRegex(process.stderr, r"quality gate: .*worst linears: model\.layers")
        report = json.loads((out / "quant_report.json").read_text())
        self.assertGreater(report["perplexity"]["after"], 1.1 * report["perplexity"]["before"])
        self.assertGreater(report["kl_mean"], 0.1)
        self.assertNotIn("seconds", report)


class BadInput(Case):
    def test_usage(self):
        for arguments in ([], ["quantise"], ["eval"], ["eval", DEMO, "--tasks", "gsm9k"], ["generate", DEMO],
                          ["generate", DEMO, "-p", "x", "--temperature", "-1"], ["info"],
                          ["quantize", DEMO, "-o", self.folder / "o", "--format", "w4ax", "--int8-share", "1.5"],
                          ["quantize", DEMO, "-o", self.folder / "o", "--int8-share", "0.5", "--int8-blocks", "1"],
                          ["quantize", DEMO, "-o", self.folder / "o", "--format", "w4a16", "--recipe", "fmpq"],
                          ["quantize", DEMO, "-o", self.folder / "o", "--format", "w4a16", "--lm-head", "int8"],
                          ["export", DEMO, "-o", self.folder / "o"],
                          ["info", DEMO, "--device", "tpu"], ["bench", "throughput", "--synthetic", "llama9"]):
            process = comet(*arguments)
            self.assertEqual(process.returncode, 2, (arguments, process.stderr))
            self.assertTrue(process.stderr)

    def test_flags_that_make_no_sense_together(self):
        cases = [(["--int8-share", "nan"], "--int8-share"), (["--int8-share", "-0.1"], "--int8-share"),
                 (["--int8-rule", "kl"], "--int8-share"),
                 (["--recipe", "fmpq", "--int8-rule", "error", "--int8-blocks", "1"], "--int8-share"),
                 (["--recipe", "naive", "--int8-rule", "error", "--int8-share", "0.3"], "unsorted"),
                 (["--recipe", "fmpq", "--int8-blocks", "4"], "has only 3 blocks"),
                 (["--weights", "clip", "--damp", "0.1"], "--damp"), (["--damp", "0"], "--damp"),
                 (["--kv", "kv16", "--kv-window", "4,32"], "--kv-window"),
                 (["--kv", "kv16", "--kv-rotate", "on"], "--kv-rotate"),
                 (["--kv-window", "4,2000"], "window"), (["--smooth", "0.5"], "--smooth"),
                 (["--weights", "rtn", "--weights-scale", "mse"], "--weights-scale"),
                 (["--format", "w4a16", "--smooth", "auto"], "--smooth"),
                 (["--format", "w8a8-int", "--smooth", "strong"], "--smooth"),
                 (["--format", "w8a8-int", "--smooth", "1.5"], "--smooth"),
                 (["--format", "w8a8-int", "--equalize", "on"], "--equalize"),
                 (["--format", "w8a8-int", "--recipe", "fmpq"], "--recipe"),
                 (["--format", "w8a8-int", "--lm-head", "int8"], "--lm-head"),
                 (["--format", "w8a8-fp8", "--weights", "gptq"], "--weights"),
                 (["--format", "w8a8-fp8", "--smooth", "0.5"], "--smooth"),
                 (["--format", "w8a8-fp8", "--damp", "0.1"], "--damp"),
                 (["--format", "w8a8-fp8", "--weights-scale", "mse"], "--weights-scale")]
        for arguments, part in cases:
            self.assert_fails(self.quantize(self.folder / "out", *arguments), part, code=2)
            self.assertEqual(list(self.folder.iterdir()), [], arguments)

    def test_int8_rules_reach_the_report(self):
        reports = [result_of(self.quantize(self.folder / rule, "--recipe", "fmpq", "--int8-share", "0.3", "--int8-rule",
                                           rule, "--json", "-"))["result"] for rule in ("fixed", "error", "kl")]
        for report, rule in zip(reports, ("fixed", "error", "kl")):
            self.assertEqual(report["int8_rule"], rule)
            self.assertAlmostEqual(report["int4_activation_share"], 0.7, delta=0.05)
        # The rule spreads blocks over layers; fixed gives every layer the same.
        self.assertEqual(len({tuple(counts) for counts in self.blocks_of_layers(reports[0])}), 1)
        self.assertGreater(len({tuple(counts) for counts in self.blocks_of_layers(reports[2])}), 1)

    @staticmethod
    def blocks_of_layers(report):
        counts = [layer["int8_blocks"] for layer in report["layers"]]
        return [counts[i:i + 4] for i in range(0, len(counts), 4)]

    def test_missing_and_broken_folders(self):
        self.assert_fails(comet("info", self.folder / "none"), "none")
        (self.folder / "empty").mkdir()
        self.assert_fails(comet("info", self.folder / "empty"), "config.json")

    def test_broken_models(self):
        def with_config(**changes):
            def change(model):
                config = json.loads((model / "config.json").read_text())
                config.update(changes)
                (model / "config.json").write_text(json.dumps(config))
            return change

        def truncate(model):
            with open(model / "model.safetensors", "r+b") as file:
                file.truncate(1_000_000)

        def huge_header(model):
            (model / "model.safetensors").write_bytes(struct.pack("<Q", 10**9) + b"{" * 100)

        def without_tokenizer(model):
            (model / "tokenizer.json").unlink()

        cases = [(truncate, "model.safetensors"), (huge_header, "model.safetensors"),
                 (without_tokenizer, "tokenizer.json"), (with_config(num_attention_heads=0), "num_attention_heads"),
                 (with_config(num_hidden_layers=10**9), "num_hidden_layers"), (with_config(hidden_act="gelu"), "hidden_act"),
                 (with_config(hidden_size=512), "model.embed_tokens.weight"),
                 (with_config(architectures=["GPT9ForCausalLM"]), "architectures")]
        for i, (change, part) in enumerate(cases):
            model = self.copy_demo(f"model{i}")
            change(model)
            self.assert_fails(comet("generate", model, "-p", "x"), part)
            self.assert_fails(self.quantize(self.folder / "out", model=model), part)
            self.assertFalse((self.folder / "out").exists())

    def test_nan_weights_name_the_tensor(self):
        model = self.copy_demo()
        data = bytearray((model / "model.safetensors").read_bytes())
        header_bytes = struct.unpack("<Q", data[:8])[0]
        name = "model.layers.3.mlp.down_proj.weight"
        begin = json.loads(data[8:8 + header_bytes])[name]["data_offsets"][0]
        data[8 + header_bytes + begin:8 + header_bytes + begin + 2] = b"\xc0\x7f"
        (model / "model.safetensors").write_bytes(data)
        self.assert_fails(self.quantize(self.folder / "out", model=model), name)
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["model"])
        self.assert_fails(comet("generate", model, "-p", "Water", "-n", "4"), "NaN")

    def test_calibration_texts(self):
        text = self.folder / "calib.txt"
        for content in ("", "short", "<|endoftext|>\n" * 5):
            text.write_text(content)
            self.assert_fails(self.quantize(self.folder / "out", "--calib", text), "calib.txt")
        self.assert_fails(self.quantize(self.folder / "out", "--calib", self.folder), str(self.folder))

    def test_existing_output_stays(self):
        out = self.folder / "out"
        out.mkdir()
        (out / "precious.txt").write_text("x")
        self.assert_fails(self.quantize(out), "--force")
        self.assertEqual((out / "precious.txt").read_text(), "x")

    def test_prompt_beyond_the_context_gives_both_lengths(self):
        self.assert_fails(comet("generate", DEMO, "-p", "word " * 3000), "3003", "1024")

    def test_unknown_version_and_layout_say_what_to_do(self):
        out = self.folder / "out"
        self.assertEqual(self.quantize(out).returncode, 0)
        original = json.loads((out / "config.json").read_text())
        for field, value in (("version", 9), ("layout", "tile64"), ("format", "w3ax")):
            config = json.loads(json.dumps(original))
            config["quantization_config"][field] = value
            (out / "config.json").write_text(json.dumps(config))
            self.assert_fails(comet("info", out), str(value))

    @unittest.skipUnless(os.geteuid() == 0, "mounting a small disk needs root")
    def test_full_disk(self):
        disk = self.folder / "disk"
        disk.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True).returncode:
            self.skipTest("mount is not allowed here")
        self.addCleanup(subprocess.run, ["umount", str(disk)])
        self.assert_fails(self.quantize(disk / "out"), "disk")
        self.assertEqual(list(disk.iterdir()), [])


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
