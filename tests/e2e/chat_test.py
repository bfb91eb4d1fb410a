#!/usr/bin/env python3
"""`comet chat` and `comet generate --chat` from outside: over a pipe, at a terminal, and with bad input.

usage: chat_test.py BINARY SOURCE_DIR [unittest arguments]
"""
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

BINARY, SOURCE = sys.argv[1], pathlib.Path(sys.argv[2])
DEMO = SOURCE / "models/demo"
GREEDY = ["--temperature", "0", "-n", "8"]
LONG_SECONDS = 120


HANG_SECONDS = 1200  # far beyond what a sanitized build on a busy machine needs


def comet(*arguments, stdin="", timeout=HANG_SECONDS):
    return subprocess.run([BINARY, *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=timeout)


def chat(*arguments, stdin, model=DEMO):
    return comet("chat", model, *GREEDY, *arguments, stdin=stdin)


def result_of(process):
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)["result"]


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="comet-chat-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def copy_demo(self, **changes):
        """The demo model with other fields in its tokenizer_config.json; None takes one away."""
        copy = self.folder / f"model{len(list(self.folder.iterdir()))}"
        shutil.copytree(DEMO, copy)
        path = copy / "tokenizer_config.json"
        config = json.loads(path.read_text())
        for name, value in changes.items():
            config.pop(name, None)
            if value is not None:
                config[name] = value
        path.write_text(json.dumps(config))
        return copy

    def assert_fails(self, process, *parts, code=None):
        self.assertIn(process.returncode, (1, 2) if code is None else (code,), process.stderr)
        errors = [line for line in process.stderr.splitlines() if "error" in line]
        self.assertEqual(len(errors), 1, process.stderr)
        for part in parts:
            self.assertIn(part, process.stderr)


class Pipe(Case):
    def test_answers_go_to_stdout_a_line_each(self):
        process = chat(stdin="Water is\nAnd fire is\n")
        self.assertEqual(process.returncode, 0, process.stderr)
        result = result_of(chat("--json", "-", stdin="Water is\nAnd fire is\n"))
        self.assertEqual(process.stdout, "".join(turn["text"] + "\n" for turn in result["turns"]))
        roles = [message["role"] for message in result["messages"]]
        self.assertEqual(roles, ["user", "assistant"] * 2)
        self.assertNotIn("\x1b", process.stdout + process.stderr)
        for turn in result["turns"]:
            self.assertLessEqual(turn["num_tokens"], 8)
            self.assertIn(turn["finish_reason"], ("stop", "length"))
        self.assertGreater(result["turns"][1]["num_prompt_tokens"], result["turns"][0]["num_prompt_tokens"])

    def test_prompt_is_the_template(self):
        """The same tokens as a prompt that is written out by hand."""
        header = "<|start_header_id|>{}<|end_header_id|>\n\n"
        prompt = header.format("system") + "Be brief.<|eot_id|>" + header.format("user") + "Water is<|eot_id|>" + header.format("assistant")
        by_hand = result_of(comet("generate", DEMO, "-p", prompt, *GREEDY, "--json", "-"))
        turn = result_of(chat("--system", " Be brief. ", "--json", "-", stdin="Water is\n"))["turns"][0]
        self.assertEqual((turn["text"], turn["num_prompt_tokens"]), (by_hand["text"], by_hand["num_prompt_tokens"]))

    def test_generate_chat(self):
        turn = result_of(chat("--json", "-", stdin="Water is\n"))["turns"][0]
        generated = result_of(comet("generate", DEMO, "-p", "Water is", "--chat", *GREEDY, "--json", "-"))
        self.assertEqual((turn["text"], turn["num_prompt_tokens"]), (generated["text"], generated["num_prompt_tokens"]))

    def test_commands(self):
        saved = self.folder / "chat.json"
        script = f"/help\nOne\nTwo\n/undo\n/retry\n/system Be kind.\n/system\nThree\n/save {saved}\n/nonsense\n/exit\nnever\n"
        result = result_of(chat("--json", "-", stdin=script))
        self.assertEqual(len(result["turns"]), 4)  # One, Two, One again, Three
        self.assertEqual(result["turns"][0]["text"], result["turns"][2]["text"])
        expected = [("system", "Be kind."), ("user", "Three"), ("assistant", result["turns"][3]["text"])]
        self.assertEqual([(m["role"], m["content"]) for m in result["messages"]], expected)
        self.assertEqual(json.loads(saved.read_text()), result["messages"])
        texts = chat(stdin=script).stderr
        for part in ("/retry", "Be kind.", "no command '/nonsense'"):
            self.assertIn(part, texts)

    def test_messages_of_several_lines(self):
        result = result_of(chat("--json", "-", stdin='a\\\nb\n"""\nc\n\nd\n"""\n//slash\n/reset\n'
                                                     'x\\\ny\n"""\nz\n"""\n//e'))
        self.assertEqual([m["content"] for m in result["messages"][::2]], ["x\ny", "z", "/e"])
        self.assertEqual(len(result["turns"]), 6)

    def test_oldest_turns_make_room(self):
        script = "".join(f"word number {i} of many\n" for i in range(8))
        result = result_of(chat("--max-model-len", 128, "--json", "-", stdin=script))
        self.assertEqual(len(result["turns"]), 8)
        self.assertGreater(sum(turn["num_dropped_messages"] for turn in result["turns"]), 0)
        self.assertLess(len(result["messages"]), 16)
        self.assertIn("context is full", chat("--max-model-len", 128, stdin=script).stderr)

    def test_own_template_and_no_template(self):
        template = self.folder / "own.jinja"
        template.write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
        own = result_of(chat("--chat-template", template, "--json", "-", stdin="Water is\n"))
        by_hand = result_of(comet("generate", DEMO, "-p", "Water is", *GREEDY, "--json", "-"))
        self.assertEqual(own["turns"][0]["num_prompt_tokens"], by_hand["num_prompt_tokens"] - 1)  # no BOS
        plain = self.copy_demo(chat_template=None)
        process = chat(stdin="Water is\n", model=plain)
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertIn("--chat-template", process.stderr)
        self.assert_fails(comet("generate", plain, "-p", "x", "--chat"), "--chat-template")

    def test_chat_template_file_of_the_folder(self):
        model = self.copy_demo()
        (model / "chat_template.jinja").write_text("{{ raise_exception('from the file') }}")
        self.assert_fails(chat(stdin="x\n", model=model), "chat_template.jinja", "line 1", "from the file")

    def test_model_that_came_out_of_quantize(self):
        out = self.folder / "out"
        made = comet("quantize", DEMO, "-o", out, "--format", "w4ax", "--calib-samples", 4, "--calib-length", 128)
        self.assertEqual(made.returncode, 0, made.stderr)
        self.assertEqual(len(result_of(chat("--json", "-", stdin="Water is\n", model=out))["turns"]), 1)


class BadInput(Case):
    def test_templates(self):
        for template, part in (("{{ x", "line 1"), ("{{ messages.a.b }}", "attribute 'a'"), (5, "chat_template"),
                               ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "steps"),
                               ("{{ ''.__class__.__mro__ }}", "__class__"), ("", "empty prompt")):
            self.assert_fails(chat(stdin="x\n", model=self.copy_demo(chat_template=template)), part)
        self.assert_fails(chat("--chat-template", self.folder / "none", stdin="x\n"), "none")
        self.assert_fails(chat("--chat-template", self.folder, stdin="x\n"), str(self.folder))

    def test_message_beyond_the_context(self):
        self.assert_fails(chat(stdin="word " * 3000 + "\n"), "1024", code=2)

    def test_usage(self):
        for arguments in (["chat"], ["chat", DEMO, "-n", "-1"], ["chat", DEMO, "--stop", ""], ["chat", DEMO, "--system", "a", "--system-file", "b"],
                          ["generate", "--synthetic", "110m", "--chat"], ["generate", DEMO, "-p", "x", "--chat-template", "f"]):
            self.assertEqual(comet(*arguments).returncode, 2, arguments)

    def test_odd_bytes_and_no_input(self):
        self.assertEqual(chat(stdin="").returncode, 0)
        process = subprocess.run([BINARY, "chat", str(DEMO), *GREEDY, "--json", "-"], input=b"\xff\xfe\x00bad\n\n\n", capture_output=True, timeout=HANG_SECONDS)
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(len(json.loads(process.stdout)["result"]["turns"]), 1)


class Terminal(Case):
    """A pseudo-terminal, and what a person sees on it."""

    def start(self, *arguments, env=None):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.environ.update({"TERM": "xterm", **(env or {})})
                os.execv(BINARY, [BINARY, "chat", str(DEMO), "--temperature", "0", *arguments])
            finally:
                os._exit(127)
        self.addCleanup(self.stop)
        self.seen = ""

    def stop(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)

    def read_until(self, pattern):
        """What has come since the last call, up to a match of `pattern`."""
        deadline = time.monotonic() + LONG_SECONDS
        while not (match := re.search(pattern, self.seen)):
            ready, _, _ = select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
            self.assertTrue(ready, f"{pattern!r} is not in {self.seen!r}")
            try:
                data = os.read(self.fd, 65536)
            except OSError:  # the program has closed the terminal
                data = b""
            self.assertTrue(data, f"{pattern!r} is not in {self.seen!r}")
            self.seen += data.decode(errors="replace")
        text, self.seen = self.seen[: match.end()], self.seen[match.end() :]
        return text

    def type(self, text):
        os.write(self.fd, text.encode())

    def status(self):
        deadline = time.monotonic() + LONG_SECONDS
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    os.read(self.fd, 65536)
                except OSError:
                    time.sleep(0.05)
        self.fail("it does not end")

    def test_editing_history_and_leaving(self):
        self.start("-n", "4")
        self.read_until("> ")
        self.type("Watr\x1b[De\x1b[F is\r")  # Water is
        self.read_until("Water is")
        self.assertIn("tokens/s", self.read_until(r"tokens/s.*\n"))
        self.read_until("> ")
        self.type("\x1b[A!\r")  # the last message, and a '!'
        self.read_until("Water is!")
        self.read_until(r"tokens/s.*\n")
        self.read_until("> ")
        self.type("\x1b[200~two\rlines\x1b[201~\r")
        self.read_until("two\u23celines")
        self.read_until(r"tokens/s.*\n")
        self.read_until("> ")
        self.type("half\x03")  # Ctrl-C clears what is typed
        self.read_until("> ")
        self.type("\x04")
        self.assertEqual(self.status(), 0)

    def test_interrupts_an_answer_and_leaves_at_the_prompt(self):
        self.start("--max-model-len", "1024", "--stop", "never said")
        self.read_until("> ")
        self.type("Tell me a long story\r")
        self.read_until("2004l")  # the line is read
        self.read_until(r"\w\w\w")
        os.kill(self.pid, signal.SIGINT)
        self.assertIn("interrupted", self.read_until(r"tokens/s.*\n"))
        self.read_until("> ")
        self.type("\x03")
        self.assertEqual(self.status(), 0)

    def test_no_color(self):
        self.start("-n", "2", env={"NO_COLOR": "1"})
        self.read_until("> ")
        self.type("Hi\r")
        self.assertNotIn("\x1b[2m", self.read_until(r"tokens/s.*\n"))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
