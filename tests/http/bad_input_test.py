#!/usr/bin/env python3
"""What no client should send: 4xx or a closed connection, and the next good request works.

The groups are those of a survey of attacks on LLM servers: headers, readers, JSON, parameters, prompts.
"""
import json
import socket
import time

import serving
from serving import post_bytes, read_to_end, status_of


class Headers(serving.Case):
    FLAGS = ("--read-time", "0.7", "--idle-time", "1.5")

    def answer(self, data):
        return status_of(self.server.raw(data))

    def test_smuggling(self):
        post = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\n"
        for fields in (b"Content-Length: 5\r\nContent-Length: 6\r\n", b"Content-Length: -1\r\n",
                       b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                       b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                       b"Content-Length: 99999999999999999999999\r\n", b"X-A: b\rc\r\n", b"X-A: b\0c\r\n",
                       b"Transfer-Encoding: xchunked\r\n", b"Transfer-Encoding: chunked, identity\r\n"):
            with self.subTest(fields):
                answer = self.server.raw(post + fields + b"\r\n0\r\n\r\nGET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
                self.assertIn(status_of(answer), (400, 501))
                self.assertEqual(answer.count(b"HTTP/1.1"), 1)

    def test_chunk_sizes(self):
        post = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        for chunk, status in ((b"-2\r\nab\r\n0\r\n\r\n", 400), (b"FFFFFFFFFFFFFFFF\r\nab", 413),
                              (b"g\r\n", 400), (b"1" * 70000, 400), (b"2\r\nabc\r\n", 400)):
            with self.subTest(chunk[:20]):
                self.assertIn(self.answer(post + chunk), (status, 408, 413))
        self.assertEqual(self.answer(post + b"2\r\n{}"), 408)  # no final chunk

    def test_oversized(self):
        get = b"GET /health HTTP/1.1\r\nHost: a\r\n"
        self.assertEqual(self.answer(get + b"X: " + b"a" * (1 << 20)), 431)
        self.assertEqual(self.answer(get + b"".join(b"X%d: a\r\n" % i for i in range(5000)) + b"\r\n"), 431)
        self.assertEqual(self.answer(get + b"".join(b"X%d: a\r\n" % i for i in range(200)) + b"\r\n"), 431)
        self.assertEqual(self.answer(b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\n\r\n"), 431)
        self.assertEqual(self.answer(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n"), 413)
        self.assertEqual(self.answer(post_bytes("/v1/completions", b"x" * (9 << 20))), 413)

    def test_no_http_at_all(self):
        for data in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10 + b"\r\n", b"\0" * 1000,
                     b"GET\r\n\r\n", b"\r\n" * 100 + b"x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
            with self.subTest(data[:12]):
                self.assertIn(self.answer(data), (400, 408, 505))
        self.assertEqual(self.server.raw(b""), b"")  # closed after the read time

    def test_obsolete_folding_is_one_value(self):
        answer = self.server.raw(b"GET /livez HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\nConnection: close\r\n\r\n")
        self.assertIn(status_of(answer), (200, 400))

    def test_slow_senders_are_closed(self):
        clients = []
        for start in (b"G", b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{"):
            client = self.server.socket()
            client.sendall(start)
            clients.append(client)
        for _ in range(3):
            time.sleep(0.3)
            for client in clients:
                try:
                    client.sendall(b"x")  # a byte now and then does not help
                except OSError:
                    pass
        for client in clients:
            self.assertEqual(status_of(read_to_end(client)), 408)
            client.close()

    def test_expect_continue_without_a_body(self):
        with self.server.socket() as client:
            client.sendall(post_bytes("/v1/completions", b"", "Expect: 100-continue").replace(
                b"Content-Length: 0", b"Content-Length: 50"))
            self.assertEqual(client.recv(25), b"HTTP/1.1 100 Continue\r\n\r\n")
            self.assertEqual(status_of(read_to_end(client)), 408)

    def test_idle_connections_are_closed(self):
        clients = [self.server.socket() for _ in range(50)]
        for client in clients:
            self.assertEqual(read_to_end(client), b"")
            client.close()
        with self.server.socket() as client:  # keep-alive after an answer
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
            self.assertEqual(status_of(read_to_end(client)), 200)

    def test_pipelining(self):
        one = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
        last = b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        answer = self.server.raw(one * 999 + last)
        self.assertEqual(answer.count(b"HTTP/1.1 200 OK"), 1000)

    def test_compressed_body_is_not_unpacked(self):
        body = b"\x1f\x8b\x08" + b"\0" * 100
        self.assertEqual(self.answer(post_bytes("/v1/completions", body, "Content-Encoding: gzip",
                                                "Connection: close")), 400)

    def test_routes_and_methods(self):
        for path in ("/", "/v1", "/v1/completions/", "/V1/models", "/../etc/passwd", "/%2e%2e/", "/v1/models/"):
            self.assertEqual(self.server.get(path)[0], 404, path)
        status, headers, _ = self.server.request("DELETE", "/v1/completions")
        self.assertEqual((status, headers["Allow"]), (405, "POST, OPTIONS"))
        status, headers, _ = self.server.request("OPTIONS", "/health")
        self.assertEqual((status, headers["Allow"]), (204, "GET, HEAD, OPTIONS"))
        status, headers, data = self.server.request("HEAD", "/health")
        self.assertEqual((status, data), (200, b""))
        self.assertGreater(int(headers["Content-Length"]), 0)
        status, answer = self.server.post("/v1/completions", b"{}", headers={"Content-Type": "text/plain"})
        self.assertEqual((status, answer["error"]["code"]), (415, "unsupported_media_type"))


class Bodies(serving.Case):
    FLAGS = ("--max-buffered-bytes", 16 << 20, "--read-time", "3")

    def test_bodies_of_all_connections_are_bounded(self):
        clients = [self.server.socket() for _ in range(8)]
        half = post_bytes("/v1/completions", b"x" * (6 << 20))[: 5 << 20]
        answers = []
        for client in clients:
            try:
                client.sendall(half)
            except OSError:
                pass  # refused before it took all
        self.assertEqual(self.server.get("/livez")[0] in (200, 503), True)
        for client in clients:
            answers.append(status_of(read_to_end(client)))
            client.close()
        self.assertGreaterEqual(answers.count(503), 4)
        self.assertLessEqual(set(answers), {503, 408, 0})


class Clients(serving.Case):
    """Clients that go, half go, or do not read."""

    FLAGS = ("--send-buffer", "2048", "--max-connections", "300", "--max-seqs", "4")

    def stream(self, **fields):
        return post_bytes("/v1/completions", {"prompt": "x", "max_tokens": 1000, "ignore_eos": True, "stream": True,
                                              **fields})

    def wait_running(self, count):
        deadline = time.monotonic() + 30
        while self.server.metric("num_requests_running") < count:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)

    def assert_cancelled(self, before):
        """Long before the 1,000 tokens are there."""
        aborts = 'comet:request_success_total{finished_reason="abort"}'
        deadline = time.monotonic() + 30
        while (after := self.server.wait_idle())[aborts] == before[aborts]:
            self.assertLess(time.monotonic(), deadline, "nothing was cancelled")
            time.sleep(0.02)
        self.assertLess(after["comet:generation_tokens_total"] - before["comet:generation_tokens_total"], 900)

    def test_vanishes_in_mid_stream(self):
        before = self.server.metrics()
        with self.server.socket() as client:
            client.sendall(self.stream())
            client.recv(2000)
        self.assert_cancelled(before)

    def test_vanishes_while_waiting_for_a_whole_answer(self):
        before = self.server.metrics()
        with self.server.socket() as client:
            client.sendall(self.stream(stream=False))
            self.wait_running(1)
        self.assert_cancelled(before)

    def test_reset(self):
        before = self.server.metrics()
        client = self.server.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.sendall(self.stream())
        client.recv(100)
        client.close()
        self.assert_cancelled(before)

    def test_half_close_ends_a_generation_but_not_an_answer(self):
        before = self.server.metrics()
        with self.server.socket() as client:
            client.sendall(self.stream())
            client.recv(2000)
            client.shutdown(socket.SHUT_WR)
            read_to_end(client)
        self.assert_cancelled(before)
        with self.server.socket() as client:
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(status_of(read_to_end(client)), 200)

    def test_half_close_while_the_answer_is_written(self):
        with self.server.socket() as client:
            client.sendall(post_bytes("/tokenize", {"prompt": "a b " * 300000}))
            time.sleep(1)  # the answer fills the sockets' buffers
            client.shutdown(socket.SHUT_WR)
            answer = read_to_end(client)  # whole, then closed: long before the idle time
        length = int(answer.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        self.assertEqual(len(answer.split(b"\r\n\r\n", 1)[1]), length)
        self.assertGreater(length, 1 << 21)

    def test_vanishes_while_queued(self):
        before = self.server.metrics()
        clients = [self.server.socket() for _ in range(8)]  # twice what runs at once
        for client in clients:
            client.sendall(self.stream())
        self.wait_running(4)
        for client in clients:
            client.close()
        self.assert_cancelled(before)

    def test_vanishes_in_the_prompt(self):
        with self.server.socket() as client:
            client.sendall(self.stream(prompt=[5] * 900, max_tokens=50))
        self.server.wait_idle()

    def test_never_reads(self):
        before = self.server.metrics()
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        client.connect(("127.0.0.1", self.server.port))
        # Log-probabilities make events of about 1 KiB: more than the sockets' buffers take.
        body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 900, "ignore_eos": True, "n": 4,
                "stream": True, "logprobs": True, "top_logprobs": 20}
        client.sendall(post_bytes("/v1/chat/completions", body))
        aborts = 'comet:request_success_total{finished_reason="abort"}'
        deadline = time.monotonic() + 60
        while self.server.metrics()[aborts] < before[aborts] + 4:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        client.close()
        self.server.wait_idle()

    def test_too_many_connections(self):
        clients = [self.server.socket() for _ in range(300)]
        time.sleep(0.3)
        with self.server.socket() as client:
            answer = read_to_end(client)
            self.assertEqual(status_of(answer), 503)
            self.assertIn(b"Retry-After", answer)
        for client in clients:
            client.close()
        time.sleep(0.3)


class Json(serving.Case):
    def post(self, body, path="/v1/completions"):
        return self.server.post(path, body)

    def assert_refused(self, body, *parts, path="/v1/completions", param=None):
        status, answer = self.post(body, path)
        self.assertEqual(status, 400, (str(body)[:100], answer))
        self.assertEqual(answer["error"]["type"], "invalid_request_error")
        if param is not None:
            self.assertEqual(answer["error"]["param"], param)
        for part in parts:
            self.assertIn(part, answer["error"]["message"])

    def test_malformed(self):
        for body in (b"", b"{", b"[]", b"null", b'"a"', b"1", b"{}{}", b'{"prompt":"a"}x', b'\xef\xbb\xbf{"prompt":1}',
                     b'{"prompt":"\xff"}', b'{"prompt":"\\ud800"}', b'{"prompt":"a","max_tokens":NaN}',
                     b'{"prompt":"a","temperature":Infinity}', b'{"prompt":"a","temperature":1e400}',
                     b'{"prompt":"a","prompt":"b"}', b"\0", b"{'prompt':'a'}"):
            with self.subTest(body):
                self.assert_refused(body)

    def test_deep_and_wide(self):
        self.assert_refused(b'{"prompt":' + b"[" * 100000, "deeper than 64")
        self.assert_refused(b'{"prompt":' + b"[" * 70 + b"]" * 70 + b"}", "deeper than 64")
        self.assert_refused(b'{"prompt":[' + b"[]," * 2000000 + b"[]]}", "JSON values")
        self.assert_refused(b'{"prompt":[' + b"1," * 3000000 + b"1]}", "JSON values")
        self.assert_refused({"messages": [{"role": "user", "content": "x"}] * 100000}, param="messages",
                            path="/v1/chat/completions")

    def test_parameters(self):
        for field, values in {
                "n": (2**31, -1, 0, 129, "1"), "best_of": (10**9,), "max_tokens": (-1, 0, 2**63),
                "logprobs": (10**6, -1), "temperature": (-1, 1e30, "0"), "top_k": (-5,), "min_p": (2,),
                "repetition_penalty": (1e9, 0), "presence_penalty": (1e9,), "seed": (2**64,),
                "stop": (["a"] * 100000, "", [""], "a" * (1 << 20)), "priority": (-2**63,),
                "logit_bias": ({str(i): 1 for i in range(100000)}, {"-1": 1}, {"8192": 1}, {"1": 1e9}),
                "user": ("u" * (1 << 20),), "min_tokens": (-1, 17), "suffix": ("x",)}.items():
            for value in values:
                with self.subTest(f"{field}={str(value)[:40]}"):
                    self.assert_refused({"prompt": "x", field: value}, param=field)

    def test_edges_that_are_allowed(self):
        for fields in ({"temperature": 1e-30}, {"top_p": 0}, {"top_k": -1}, {"seed": -2**63}, {"seed": 2**63 - 1},
                       {"n": 128, "max_tokens": 1}, {"logprobs": 20}, {"stop": ["a"] * 16}, {"stop": []},
                       {"logit_bias": {str(i): -100 for i in range(1024)}}, {"presence_penalty": -2},
                       {"repetition_penalty": 0.01, "temperature": 2}, {"user": "\r\nGET / HTTP/1.1"}):
            with self.subTest(str(fields)[:60]):
                status, answer = self.server.complete("x", **{"temperature": 1, **fields})
                self.assertEqual(status, 200, answer)

    def test_prompts(self):
        for prompt, param in (([], "prompt"), ([[]], "prompt[0]"), ([-1], "prompt"), ([8192], "prompt"),
                              ([1, "a"], "prompt"), ([None], "prompt[0]"), (None, "prompt"), ({}, "prompt"),
                              (["a"] * 1025, "prompt"), ([2**40], "prompt")):
            with self.subTest(str(prompt)[:40]):
                self.assert_refused({"prompt": prompt}, param=param)
        self.assertEqual(self.server.complete("")[0], 200)  # BOS alone
        self.assertEqual(self.server.complete("<|begin_of_text|><|end_of_text|><|eot_id|>")[0], 200)
        self.assertEqual(self.server.complete("\0\1\u202e\ufffd")[0], 200)

    def test_prompts_at_the_context(self):
        self.assertEqual(self.server.complete([5] * 1023, max_tokens=1)[0], 200)
        self.assert_refused({"prompt": [5] * 1023, "max_tokens": 2}, "1024", param="max_tokens")
        for length in (1024, 1025, 5000):
            self.assert_refused({"prompt": [5] * length}, "1024", str(length), param="prompt")
        status, answer = self.server.complete([5] * 1020, max_tokens=None)  # the default is cut to fit
        self.assertEqual((status, answer["usage"]["completion_tokens"]), (200, 4))

    def test_huge_texts(self):
        for text in ("a" * (7 << 20), "\u0301" * (3 << 20), " " * (7 << 20), "\U0001f600" * (1 << 20)):
            # Quadratic time would outlast the two minutes that a request has here.
            self.assert_refused(json.dumps({"prompt": text}, ensure_ascii=False).encode(), "context", param="prompt")

    def test_messages(self):
        for messages, param in ((None, "messages"), ("x", "messages"), ([123], "messages[0]"), ([{}], "messages[0].role"),
                                ([{"role": 1, "content": "a"}], "messages[0].role"),
                                ([{"role": "wizard", "content": "a"}], "messages[0].role"),
                                ([{"role": "user", "content": 5}], "messages[0].content"),
                                ([{"role": "user", "content": [{"type": "image_url", "image_url": {
                                    "url": "http://169.254.169.254/"}}]}], "messages[0].content[0].type")):
            with self.subTest(str(messages)):
                self.assert_refused({"messages": messages}, path="/v1/chat/completions", param=param)
        for field, value in (("response_format", {"type": "hiccup"}), ("tools", [{}]), ("tool_choice", "required"),
                             ("chat_template", "{{ x }}"), ("top_logprobs", 5)):
            self.assert_refused({"messages": [{"role": "user", "content": "a"}], field: value},
                                path="/v1/chat/completions", param=field)

    def test_log_probabilities_are_bounded(self):
        fields = {"n": 128, "max_tokens": 900, "logprobs": 20}
        self.assert_refused({"prompt": "x", **fields}, "log-probabilities", param="logprobs")
        self.assertEqual(self.server.complete("x", n=16, max_tokens=20, logprobs=20)[0], 200)

    def test_unknown_model(self):
        status, answer = self.server.complete(model="gpt-17\r\nX")
        self.assertEqual((status, answer["error"]["code"]), (404, "model_not_found"))
        self.assertEqual(self.server.get("/v1/models/nothing")[0], 404)


if __name__ == "__main__":
    serving.main()
