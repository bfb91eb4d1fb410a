#!/usr/bin/env python3
"""A second load generator, independent of `comet bench serve`: asyncio, raw sockets, its own statistics.

usage: tests/http/second_client.py URL --input-len P --output-len G --num-requests N [--concurrency C | --rate R] [--seed S]
       [--detailed]

Prints one JSON with the field names of vllm bench serve. For tests, and for comparing the two tools by hand.
"""
import argparse
import asyncio
import json
import math
import random
import time
import urllib.parse
import urllib.request


class Stream(asyncio.Protocol):
    """Keeps what arrives and when, and nothing else: reading one stream must not delay the others' clocks."""

    def __init__(self):
        self.pieces = []
        self.ended = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        self.pieces.append((time.perf_counter(), data))

    def connection_lost(self, error):
        self.ended.set_result(error)

    def lines(self):
        """(time at which it was there, line); the sizes of chunks are lines too."""
        rest = b""
        for at, data in self.pieces:
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                yield at, line


async def complete(host, port, body):
    """The stream of one completion, and when it was begun."""
    data = json.dumps(body).encode()
    start = time.perf_counter()
    transport, stream = await asyncio.get_running_loop().create_connection(Stream, host, port)
    transport.write(f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
                    f"Connection: close\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
    await stream.ended
    return start, stream


def measured(start, stream):
    """(ttft, gaps, latency, usage) of one streamed completion, in seconds."""
    lines = stream.lines()
    status = next(lines)[1].split()[1]
    assert status == b"200", status
    times, usage = [], None
    for at, line in lines:
        if not line.startswith(b"data: ") or line[6:].strip() == b"[DONE]":
            continue
        event = json.loads(line[6:])
        usage = event.get("usage") or usage
        choice = (event.get("choices") or [None])[0]
        if choice is not None and (choice["text"] or not choice["finish_reason"]):
            times.append(at)
    return times[0] - start, [b - a for a, b in zip(times, times[1:])], times[-1] - start, usage


def percentile(values, p):
    values = sorted(values)
    rank = p / 100 * (len(values) - 1)
    low = math.floor(rank)
    return values[low] + (rank - low) * (values[min(low + 1, len(values) - 1)] - values[low])


def series_of(results):
    """What the figures are of, in ms."""
    return {"ttft": [1e3 * r[0] for r in results], "itl": [1e3 * g for r in results for g in r[1]],
            "e2el": [1e3 * r[2] for r in results],
            "tpot": [1e3 * (r[2] - r[0]) / (r[3]["completion_tokens"] - 1) for r in results if r[3]["completion_tokens"] > 1]}


def summary(results, duration):
    out = {"completed": len(results), "duration": duration, "request_throughput": len(results) / duration,
           "total_input_tokens": sum(r[3]["prompt_tokens"] for r in results),
           "total_output_tokens": sum(r[3]["completion_tokens"] for r in results)}
    for name, values in series_of(results).items():
        out[f"mean_{name}_ms"] = sum(values) / len(values)
        for p in (50, 95, 99):
            out[f"p{p}_{name}_ms"] = percentile(values, p)
    return out


async def run(args):
    url = urllib.parse.urlparse(args.url)
    model = json.load(urllib.request.urlopen(args.url + "/v1/models"))["data"][0]["id"]
    rng = random.Random(args.seed)

    def body():
        return {"model": model, "prompt": [rng.randrange(300, 4000) for _ in range(args.input_len)], "max_tokens": args.output_len,
                "temperature": 0, "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}}

    await complete(url.hostname, url.port, body())  # warm-up
    bodies = [body() for _ in range(args.num_requests)]
    streams = []
    start = time.perf_counter()

    async def one(body):
        streams.append(await complete(url.hostname, url.port, body))

    async def worker():
        while bodies:
            await one(bodies.pop())

    if args.rate:
        tasks, due = [], 0.0
        while bodies:
            due += rng.expovariate(args.rate)
            await asyncio.sleep(max(0.0, start + due - time.perf_counter()))
            tasks.append(asyncio.create_task(one(bodies.pop())))
        await asyncio.gather(*tasks)
    else:
        await asyncio.gather(*(worker() for _ in range(args.concurrency)))
    duration = time.perf_counter() - start
    results = [measured(*each) for each in streams]
    out = summary(results, duration)
    if args.detailed:
        out["series"] = series_of(results)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--input-len", type=int, required=True)
    parser.add_argument("--output-len", type=int, required=True)
    parser.add_argument("--num-requests", type=int, required=True)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--detailed", action="store_true", help="every value behind the figures, too")
    print(json.dumps(asyncio.run(run(parser.parse_args())), indent=1))


if __name__ == "__main__":
    main()
