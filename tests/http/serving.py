"""A `comet serve` of its own for each test class, raw sockets to talk to it, and what it says of itself.

Standard library only. Tests are run as: NAME_test.py BINARY SOURCE_DIR [unittest arguments]
"""
import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

BINARY, SOURCE = sys.argv[1], pathlib.Path(sys.argv[2])
DEMO = SOURCE / "models/demo"
MODEL = "demo"
START_SECONDS = 60  # far beyond what an overloaded machine needs
THREADS = 2  # tests run side by side: with every core each, a machine of many would only switch between them
SANITIZED = any(name in pathlib.Path(BINARY).read_bytes() for name in (b"__asan_init", b"__tsan_init"))


class Server:
    """A running `comet serve` of the demo model on a free port."""

    def __init__(self, *flags, model=(str(DEMO),)):
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [BINARY, "serve", *model, "--port", "0", "--threads", str(THREADS), *map(str, flags)],
            stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.port = None
        timer = threading.Timer(START_SECONDS, self.process.kill)
        timer.start()
        for line in self.process.stdout:
            match = re.search(r"http://127\.0\.0\.1:(\d+) ", line)
            if match:
                self.port = int(match.group(1))
                break
        timer.cancel()
        if self.port is None:
            raise AssertionError(f"comet serve did not start:\n{self.log_text()}")
        self.url = f"http://127.0.0.1:{self.port}"

    def log_text(self):
        if self.log.closed:
            return self.final_log
        self.log.seek(0)
        return self.log.read()

    def stop(self, timeout=60):
        """SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process.stdout.close()
            self.final_log = self.log_text()
            self.log.close()
        return code

    # --- requests ---

    def request(self, method, path, body=None, headers=None, timeout=120):
        """(status, headers, bytes); `body`: bytes, or what becomes JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        headers = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def post(self, path, body, **options):
        status, _, data = self.request("POST", path, body, **options)
        return status, json.loads(data)

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def complete(self, prompt="The history of", **fields):
        fields = {"prompt": prompt, "max_tokens": 8, "temperature": 0, "ignore_eos": True, **fields}
        return self.post("/v1/completions", fields)

    def socket(self, timeout=30):
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def raw(self, data, timeout=30):
        """Everything the server sends for `data` until it closes, b"" after a reset."""
        with self.socket(timeout) as client:
            try:
                client.sendall(data)
            except OSError:
                pass  # closed before it took all
            return read_to_end(client)

    def metrics(self):
        """{name with labels but model_name: value}"""
        status, _, data = self.get("/metrics")
        assert status == 200
        return parse_metrics(data.decode())

    def metric(self, name):
        return self.metrics()["comet:" + name]

    def wait_idle(self, timeout=30):
        """Until nothing runs and waits, and every page is free."""
        deadline = time.monotonic() + timeout
        while True:
            now = self.metrics()
            if (now["comet:num_requests_running"] == 0 and now["comet:num_requests_waiting"] == 0
                    and now["comet:kv_cache_free_pages"] == now["comet:kv_cache_pages"]):
                return now
            if time.monotonic() > deadline:
                raise AssertionError(f"not idle after {timeout} s: {now}")
            time.sleep(0.05)


def read_to_end(client):
    out = b""
    with contextlib.suppress(ConnectionError):
        while data := client.recv(65536):
            out += data
    return out


def post_bytes(path, body, *fields):
    """A POST as raw bytes."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: test", "Content-Type: application/json",
             f"Content-Length: {len(body)}", *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def status_of(answer):
    match = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    return int(match.group(1)) if match else 0


SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)\{(.*)\} (\S+)$")


def parse_metrics(text):
    values, typed = {}, set()
    for line in text.splitlines():
        if line.startswith("#"):
            kind, name = line.split()[1:3]
            assert kind in ("HELP", "TYPE"), line
            typed.add(name)
            continue
        match = SAMPLE.match(line)
        assert match, f"not a sample: {line}"
        name, labels, value = match.groups()
        family = re.sub(r"_(bucket|sum|count)$", "", name)
        assert name in typed or family in typed, f"no TYPE before {line}"
        labels = re.sub(r'model_name="[^"]*",?', "", labels)
        values[name + ("{" + labels + "}" if labels else "")] = float(value)
    return values


class Case(unittest.TestCase):
    """Starts one server for the class; after each test it must still serve, with every page free."""

    FLAGS = ()

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.FLAGS)

    @classmethod
    def tearDownClass(cls):
        code = cls.server.stop()
        log = cls.server.log_text()
        assert code == 0, f"exit code {code}\n{log[-4000:]}"
        assert "internal error" not in log, log[-4000:]

    def tearDown(self):
        status, answer = self.server.complete("A good request")
        self.assertEqual(status, 200, answer)
        self.server.wait_idle()


def main():
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
