#!/usr/bin/env python3
"""Keys, request ids, health, metrics, sameness under load, and the ends of a server's life."""
import json
import signal
import subprocess
import threading
import time
import unittest

import serving
from serving import Server, post_bytes, read_to_end, status_of


class Keys(unittest.TestCase):
    def test_every_route_but_livez_wants_a_key(self):
        with open("/tmp/comet-keys-%d" % time.time_ns(), "w+") as file:
            file.write("# keys\nfrom-file\n")
            file.flush()
            server = Server("--api-key", "first-key", "--api-key-file", file.name)
        routes = [("GET", p) for p in ("/health", "/metrics", "/v1/models", "/openapi.json", "/", "/nothing")]
        routes += [("POST", p) for p in ("/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize")]
        for method, path in routes:
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "first-key"},
                            {"X-Api-Key": "first-ke"}, {"Authorization": "Bearer "}):
                status, answer_headers, data = server.request(method, path, {} if method == "POST" else None, headers)
                self.assertEqual(status, 401, (path, headers))
                self.assertEqual(json.loads(data)["error"]["type"], "authentication_error")
                self.assertEqual(answer_headers["WWW-Authenticate"], "Bearer")
        self.assertEqual(server.get("/livez")[0], 200)
        for headers in ({"Authorization": "Bearer first-key"}, {"X-Api-Key": "from-file"}):
            self.assertEqual(server.get("/health", headers=headers)[0], 200)
            self.assertEqual(server.complete()[0], 401)
        self.assertEqual(server.stop(), 0)
        self.assertNotIn("first-key", server.log_text())
        self.assertNotIn("wrong", server.log_text())

    def test_wrong_use_is_said(self):
        for flags, text in ((("--api-key", "a b"), "--api-key"), (("--api-key-file", "/nowhere"), "/nowhere"),
                            (("--host", "localhost.example"), "--host"), (("--tls-cert", "x"), "--tls-cert"),
                            (("--port", "70000"), "--port"), (("--max-model-len", "5000"), "--max-model-len")):
            done = subprocess.run([serving.BINARY, "serve", serving.DEMO, "--port", "0", *flags],
                                  capture_output=True, text=True, timeout=60)
            self.assertIn(done.returncode, (1, 2), flags)
            self.assertIn(text, done.stderr)

    def test_a_port_in_use(self):
        server = Server()
        done = subprocess.run([serving.BINARY, "serve", serving.DEMO, "--port", str(server.port)],
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn(str(server.port), done.stderr)
        self.assertEqual(server.stop(), 0)


class Routes(serving.Case):
    def test_request_ids(self):
        _, headers, data = self.server.request("POST", "/v1/completions", {"prompt": "x", "max_tokens": 1},
                                               {"X-Request-Id": "my-id.7"})
        self.assertEqual(headers["X-Request-Id"], "my-id.7")
        self.assertEqual(json.loads(data)["id"], "cmpl-my-id.7")
        ids = set()
        for bad in ("", "a b", "x" * 129, "é"):
            _, headers, _ = self.server.request("GET", "/health", headers={"X-Request-Id": bad.encode()})
            self.assertRegex(headers["X-Request-Id"], "^[0-9a-f]{32}$")
            ids.add(headers["X-Request-Id"])
        self.assertEqual(len(ids), 4)

    def test_the_log_has_lines_without_prompts(self):
        self.server.complete("a secret prompt")
        self.server.raw(b"GET /a%0d%0aFAKE\x7f HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        log = self.server.log_text()
        self.assertRegex(log, r"127\.0\.0\.1 POST /v1/completions 200 .* \d+ \+ 8 tokens, id [0-9a-f]{32}")
        self.assertNotIn("secret", log)
        self.assertNotIn("\nFAKE", log)

    def test_health_and_aliases(self):
        self.assertEqual(json.loads(self.server.get("/health")[2]), {"status": "ok"})
        body = {"prompt": "x", "max_tokens": 2, "temperature": 0}
        for path in ("/completions", "/v1/completions"):
            self.assertEqual(self.server.post(path, body)[0], 200)
        for path in ("/models", "/v1/models"):
            self.assertEqual(json.loads(self.server.get(path)[2])["data"][0]["id"], serving.MODEL)

    def test_metrics_are_prometheus_text(self):
        status, headers, data = self.server.get("/metrics")
        self.assertEqual(headers["Content-Type"], "text/plain; version=0.0.4; charset=utf-8")
        before = serving.parse_metrics(data.decode())
        self.server.complete(max_tokens=5)
        after = self.server.metrics()
        for name, step in (("comet:generation_tokens_total", 5), ("comet:e2e_request_latency_seconds_count", 1),
                           ('comet:request_success_total{finished_reason="length"}', 1),
                           ("comet:time_to_first_token_seconds_count", 1), ("comet:inter_token_latency_seconds_count", 4),
                           ("comet:request_generation_tokens_sum", 5)):
            self.assertEqual(after[name] - before[name], step, name)
        self.assertGreater(after["process_resident_memory_bytes"], 1 << 20)

    def test_a_seed_says_the_same_whatever_else_runs(self):
        fields = {"prompt": "The river", "max_tokens": 40, "temperature": 0.9, "top_p": 0.95, "seed": 11}
        alone = self.server.complete(**fields)[1]["choices"][0]["text"]
        stop = threading.Event()

        def load(seed):
            while not stop.is_set():
                self.server.complete("Noise " * (seed % 5 * 40 + 1), max_tokens=24, temperature=1, seed=seed)

        threads = [threading.Thread(target=load, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(4):
                self.assertEqual(self.server.complete(**fields)[1]["choices"][0]["text"], alone)
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def test_keep_alive_serves_many_requests(self):
        with self.server.socket() as client:
            for _ in range(5):
                client.sendall(post_bytes("/tokenize", {"prompt": "hello"}))
                head = b""
                while b"\r\n\r\n" not in head:
                    head += client.recv(1)
                self.assertEqual(status_of(head), 200)
                length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
                while length > 0:
                    length -= len(client.recv(length))

    def test_http_1_0_streams_without_chunks(self):
        body = json.dumps({"prompt": "x", "max_tokens": 3, "stream": True, "ignore_eos": True}).encode()
        answer = self.server.raw(b"POST /v1/completions HTTP/1.0\r\nContent-Type: application/json\r\n"
                                 b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self.assertEqual(status_of(answer), 200)
        self.assertNotIn(b"Transfer-Encoding", answer)
        self.assertTrue(answer.endswith(b"data: [DONE]\n\n"))


class Queue(serving.Case):
    FLAGS = ("--max-seqs", "2", "--queue", "3")

    def test_a_full_queue_is_429(self):
        clients = []
        for _ in range(5):
            client = self.server.socket()
            client.sendall(post_bytes("/v1/completions", {"prompt": "x", "max_tokens": 900, "ignore_eos": True,
                                                          "stream": True}))
            client.recv(100)
            clients.append(client)
        status, headers, data = self.server.request("POST", "/v1/completions", {"prompt": "x"})
        self.assertEqual((status, headers["Retry-After"]), (429, "1"))
        self.assertEqual(json.loads(data)["error"]["type"], "rate_limit_error")
        status, answer = self.server.complete(n=6)
        self.assertEqual((status, answer["error"]["param"]), (400, "n"))
        self.assertEqual(self.server.get("/health")[0], 200)
        for client in clients:
            client.close()
        self.server.wait_idle()


class Ends(unittest.TestCase):
    def long_request(self, server, stream=True):
        client = server.socket()
        body = {"prompt": "x", "max_tokens": 300, "ignore_eos": True, "stream": stream}
        if stream:
            body["stream_options"] = {"include_usage": True}
        client.sendall(post_bytes("/v1/completions", body))
        deadline = time.monotonic() + 30
        while server.metric("num_requests_running") == 0:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        return client

    def test_sigterm_ends_what_is_in_flight(self):
        server = Server("--drain-time", "600")  # under a sanitizer everything takes its time
        clients = [self.long_request(server, stream) for stream in (True, False)]
        for client in clients:
            client.settimeout(600)
        idle = server.socket()
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        with self.assertRaises(OSError):
            server.socket(timeout=5)  # no longer listening
        streamed, whole = (read_to_end(client) for client in clients)
        self.assertIn(b"data: [DONE]\n\n", streamed)
        self.assertIn(b'"completion_tokens":300', streamed)
        self.assertEqual(json.loads(whole.split(b"\r\n\r\n", 1)[1])["usage"]["completion_tokens"], 300)
        self.assertEqual(read_to_end(idle), b"")
        for client in (*clients, idle):
            client.close()
        self.assertEqual(server.process.wait(30), 0)
        server.stop()

    def test_the_drain_has_an_end(self):
        server = Server("--drain-time", "0")
        clients = [self.long_request(server, stream) for stream in (True, False)]
        server.process.send_signal(signal.SIGTERM)
        streamed, whole = (read_to_end(client) for client in clients)
        self.assertIn(b'"error"', streamed)
        self.assertIn(b"data: [DONE]\n\n", streamed)
        self.assertEqual(status_of(whole), 503)
        for client in clients:
            client.close()
        self.assertEqual(server.process.wait(30), 0)
        server.stop()

    def test_a_second_signal_ends_at_once(self):
        server = Server()
        client = self.long_request(server)
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.process.wait(5), 1)
        client.close()
        server.stop()

    def test_health_says_loading_before_it_is_ready(self):
        # The shape takes a while to fill with random weights; the port is open before that.
        process = subprocess.Popen([serving.BINARY, "serve", "--synthetic", "110m", "--port", "0", "--kv-memory", "64M"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        port = next(int(line.rsplit(":", 1)[1]) for line in process.stderr if "listening on" in line)
        server = Server.__new__(Server)
        server.port = port
        status, headers, data = server.get("/health")
        if status == 503:
            self.assertEqual(json.loads(data), {"status": "loading"})
            self.assertEqual(server.get("/livez")[0], 200)
            self.assertEqual(server.get("/metrics")[0], 200)
            self.assertEqual(server.complete([1, 2])[0], 503)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0)


if __name__ == "__main__":
    serving.main()
