#!/usr/bin/env python3
"""A second load generator, independent of `comet bench serve`: asyncio, raw sockets, its own statistics.

usage: tests/http/second_client.py URL --input-len P --output-len G --num-requests N [--concurrency C | --rate R] [--seed S]

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


async def complete(host, port, body):
    """(ttft, gaps, latency, usage) of one streamed completion, in seconds."""
    data = json.dumps(body).encode()
    start = time.perf_counter()
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
                 f"Connection: close\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
    first = last = usage = None
    gaps = []
    try:
        status = (await reader.readline()).split()[1]
        assert status == b"200", status
        async for line in reader:  # the sizes of chunks are lines too, and are passed over
            if not line.startswith(b"data: "):
                continue
            text = line[6:].strip()
            if text == b"[DONE]":
                break
            event = json.loads(text)
            usage = event.get("usage") or usage
            choice = (event.get("choices") or [None])[0]
            if choice is None or (not choice["text"] and choice["finish_reason"]):
                continue
            now = time.perf_counter()
            if first is None:
                first = now
            else:
                gaps.append(now - last)
            last = now
    finally:
        writer.close()
    return first - start, gaps, last - start, usage


def percentile(values, p):
    values = sorted(values)
    rank = p / 100 * (len(values) - 1)
    low = math.floor(rank)
    return values[low] + (rank - low) * (values[min(low + 1, len(values) - 1)] - values[low])


def summary(results, duration):
    out = {"completed": len(results), "duration": duration, "request_throughput": len(results) / duration,
           "total_input_tokens": sum(r[3]["prompt_tokens"] for r in results),
           "total_output_tokens": sum(r[3]["completion_tokens"] for r in results)}
    series = {"ttft": [r[0] for r in results], "itl": [g for r in results for g in r[1]], "e2el": [r[2] for r in results],
              "tpot": [(r[2] - r[0]) / (r[3]["completion_tokens"] - 1) for r in results if r[3]["completion_tokens"] > 1]}
    for name, values in series.items():
        out[f"mean_{name}_ms"] = 1e3 * sum(values) / len(values)
        for p in (50, 95, 99):
            out[f"p{p}_{name}_ms"] = 1e3 * percentile(values, p)
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
    results = []
    start = time.perf_counter()

    async def one(body):
        results.append(await complete(url.hostname, url.port, body))

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
    return summary(results, time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--input-len", type=int, required=True)
    parser.add_argument("--output-len", type=int, required=True)
    parser.add_argument("--num-requests", type=int, required=True)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--seed", type=int, default=0)
    print(json.dumps(asyncio.run(run(parser.parse_args())), indent=1))


if __name__ == "__main__":
    main()
