"""An OpenAI server that is none: it streams tokens at scripted times and keeps when it really sent them.

What it does wrong on purpose is its `mode`. Standard library only.
"""
import asyncio
import json
import threading
import time


class ScriptedServer:
    MODES = ("ok", "unauthorized", "no_model", "html", "whole", "stall", "cut", "error_chunk", "silent", "not_http", "busy",
             "trickle")

    def __init__(self, mode="ok", ttft=lambda i: 0.05, gap=lambda i, j: 0.01, model="scripted"):
        self.mode, self.ttft, self.gap, self.model = mode, ttft, gap, model
        self.requests = []  # {"ttft": s, "gaps": [s], "end": s, "body": {...}} by what was really sent
        self.loop = asyncio.new_event_loop()
        started = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(started,), daemon=True)
        self.thread.start()
        started.wait()
        self.url = f"http://127.0.0.1:{self.port}"

    def run(self, started):
        asyncio.set_event_loop(self.loop)

        async def start():
            self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
            self.port = self.server.sockets[0].getsockname()[1]
            started.set()

        async def end():
            self.server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.loop.run_until_complete(start())
        self.loop.run_forever()
        self.loop.run_until_complete(end())
        self.loop.close()

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    async def serve(self, reader, writer):
        try:
            await self.answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def answer(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        read_at = time.perf_counter()
        length = next((int(line.split(":")[1]) for line in head.split("\r\n") if line.lower().startswith("content-length")), 0)
        body = json.loads(await reader.readexactly(length)) if length else None
        path = head.split()[1]
        if self.mode == "silent":
            await asyncio.sleep(3600)
        if self.mode == "not_http":
            writer.write(b"220 mail ready\r\n\r\n")
            return await writer.drain()
        if self.mode == "unauthorized":
            return self.plain(writer, 401, {"error": {"message": "a key is wanted"}})
        if path.endswith("/v1/models"):
            if self.mode == "html":
                return self.plain(writer, 200, "<html>a router</html>", "text/html")
            return self.plain(writer, 200, {"object": "list", "data": [{"id": self.model}]})
        if self.mode == "no_model" or body["model"] != self.model:
            return self.plain(writer, 404, {"error": {"message": "no such model"}})
        if self.mode == "whole":
            return self.plain(writer, 200, {"choices": [{"text": "all at once"}]})
        if self.mode == "busy":
            return self.plain(writer, 429, {"error": {"message": "the queue is full"}})
        await self.stream(writer, body, read_at)

    @staticmethod
    def plain(writer, status, body, kind="application/json"):
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)

    async def stream(self, writer, body, read_at):
        index, num_tokens = len(self.requests), body["max_tokens"]
        record = {"ttft": None, "gaps": [], "end": None, "body": body, "num_prompt": len(body["prompt"])}
        self.requests.append(record)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        last = None
        for j in range(num_tokens):
            await asyncio.sleep(self.gap(index, j) if j else self.ttft(index))
            if self.mode == "stall" and j == 2:
                await asyncio.sleep(3600)
            if self.mode == "cut" and j == 2:
                return
            if self.mode == "error_chunk" and j == 2:
                self.event(writer, {"error": {"message": "out of pages"}})
                return await writer.drain()
            self.event(writer, {"choices": [{"index": 0, "text": f" t{j}", "finish_reason": None}]})
            await writer.drain()
            now = time.perf_counter()
            if last is None:
                record["ttft"] = now - read_at
            else:
                record["gaps"].append(now - last)
            last = now
            record["end"] = now - read_at
        usage = {"prompt_tokens": record["num_prompt"], "completion_tokens": num_tokens}
        self.event(writer, {"choices": [{"index": 0, "text": "", "finish_reason": "length"}]})
        self.event(writer, {"choices": [], "usage": usage})
        writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        await writer.drain()

    @staticmethod
    def event(writer, value):
        data = f"data: {json.dumps(value)}\n\n".encode()
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
