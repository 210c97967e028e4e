#!/usr/bin/env python
"""Ten thousand requests that should be refused, and what becomes of the server: statuses, memory, good requests beside.

Malformed JSON, wrong types, texts and lists that are too long, deep nesting, lone surrogates, wrong paths and methods,
bodies over the limit (declared and chunked), garbage that is no HTTP, clients that leave in the middle, and slow ones:
connections that send a byte now and then, --slow of them open at any time. A good client asks all the while. Starts the
server, on this machine alone.

  python benchmarks/serving_abuse.py --run runs/banking77
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import psutil

GOOD = json.dumps({"inputs": "where is my card?"}).encode()
BODY_LIMIT = 100_000
SLOW_SECONDS = 2.0


def request(body: bytes, path: str = "/", method: str = "POST", more: str = "", length: int | None = None) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nConnection: close\r\n{more}"
    return f"{head}Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


def chunked(size: int) -> bytes:
    head = "POST / HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    return head.encode() + chunk * (size // 0x4000 + 1)


def kinds(draw: random.Random) -> dict[str, tuple[bytes, set[int]]]:
    """What is sent, and the statuses that are right; 0: the server closes without an answer."""
    noise = draw.randbytes(draw.randrange(1, 400))
    return {
        "cut JSON": (request(GOOD[: draw.randrange(1, len(GOOD))]), {400}),
        "noise for JSON": (request(noise), {400, 422}),
        "wrong type": (request(json.dumps({"inputs": draw.choice([5, None, True, {}, [1], [[]]])}).encode()), {422}),
        "no inputs": (request(b"{}"), {422}),
        "unknown setting": (request(b'{"inputs": "a", "parameters": {"x": 1}}'), {422}),
        "lone surrogate": (request(b'{"inputs": "\\ud800"}'), {422}),
        "not a number": (request(b'{"inputs": NaN}'), {422}),
        "endless number": (request(b'{"inputs": "a", "parameters": {"top_k": ' + b"9" * 6000 + b"}}"), {400, 422}),
        "deep nesting": (request(b'{"inputs": ' + b"[" * 40_000), {400}),
        "long text": (request(json.dumps({"inputs": "a" * 60_000}).encode()), {422}),
        "many texts": (request(json.dumps({"inputs": ["a"] * 300}).encode()), {422}),
        "wrong path": (request(GOOD, "/" + draw.choice(["x", "../etc/passwd", "%00", "v1/none"])), {404}),
        "wrong method": (request(GOOD, method=draw.choice(["PUT", "DELETE", "PATCH"])), {405}),
        "no JSON type": (request(GOOD).replace(b"application/json", b"text/plain"), {422}),
        "too large, declared": (request(b"x", length=10**9), {413}),
        "too large, chunked": (chunked(2 * BODY_LIMIT), {413, 0}),
        "no HTTP": (noise + b"\r\n\r\n", {400, 0}),
        "two lengths": (request(GOOD, more="Content-Length: 3\r\n"), {400}),
        "long head": (request(GOOD, more=f"X: {'a' * 50_000}\r\n"), {200, 400, 431}),
        "leaves": (request(GOOD, length=len(GOOD) + 5), {-1}),
    }


async def send(port: int, data: bytes, leave: bool) -> int:
    """The status that comes back; 0 where the connection is closed without one; -1 for a client that doesn't wait."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        await writer.drain()
        if leave:
            return -1
        return int((await asyncio.wait_for(reader.readline(), 60) or b"x 0").split()[1])
    except ConnectionError:
        return 0
    finally:
        writer.close()


async def slowly(port: int, end: float, outcomes: Counter[str]) -> None:
    """Sends a head or a body byte by byte, until it is cut off; again and again."""
    while time.monotonic() < end:
        data = request(b" " * 1000) if len(outcomes) % 2 else b"POST / HTTP/1.1\r\nX: " + b"a" * 1000
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        began = time.monotonic()
        writer.write(data[:120] if data.startswith(b"POST / HTTP/1.1\r\nHost") else data[:20])
        got = asyncio.create_task(reader.read(1000))
        while not got.done() and time.monotonic() < began + 30:
            try:
                writer.write(b"a")
                await writer.drain()
            except ConnectionError:
                break
            await asyncio.wait([got], timeout=0.2)
        answer = b""
        if got.done() and not got.exception():
            answer = got.result()
        got.cancel()
        told = answer.split()[1].decode() if answer else "closed" if time.monotonic() < began + 29 else "left open"
        outcomes[f"slow: {told}"] += 1
        writer.close()


async def ask_well(port: int, stop: asyncio.Event, times: list[float]) -> None:
    """A client whose every request must be answered."""
    while not stop.is_set():
        began = time.monotonic()
        if (status := await send(port, request(GOOD), False)) != 200:
            raise SystemExit(f"a good request was answered with {status}")
        times.append(time.monotonic() - began)


async def abuse(port: int, count: int, slow: int, process: psutil.Process) -> None:
    draw = random.Random(1)
    outcomes: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    stop, times = asyncio.Event(), list[float]()
    good = asyncio.create_task(ask_well(port, stop, times))
    memory = []
    sent = 0

    async def worker() -> None:
        nonlocal sent
        while sent < count:
            sent += 1
            if sent % (count // 10) == 0:
                memory.append(process.memory_info().rss / 2**20)
                print(f"{sent:,} sent, {memory[-1]:.0f} MiB", file=sys.stderr, flush=True)
            name, (data, right) = draw.choice(list(kinds(draw).items()))
            status = await send(port, data, -1 in right)
            outcomes[f"{name}: {status}"] += 1
            if status not in right:
                wrong[f"{name}: {status}"] += 1

    began = time.monotonic()
    slow_end = began + 5
    before = process.memory_info().rss / 2**20
    slow_ones = [asyncio.create_task(slowly(port, slow_end, outcomes)) for _ in range(slow)]
    await asyncio.gather(*(worker() for _ in range(16)))
    await asyncio.gather(*slow_ones)
    stop.set()
    await good
    for name, number in sorted(outcomes.items()):
        print(f"| {name} | {number:,} |")
    times.sort()
    print(f"\n{sent:,} bad requests in {time.monotonic() - began:.0f} s")
    print(f"{sum(wrong.values())} answered wrongly {dict(wrong)}")
    print(f"{len(times):,} good ones beside, all answered, p50 {1000 * times[len(times) // 2]:.0f} ms")
    print(f"resident MiB before {before:.0f}; by tenths {', '.join(f'{one:.0f}' for one in memory)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--slow", type=int, default=50)
    parser.add_argument("--port", type=int, default=8791)
    args = parser.parse_args()
    code = "from nlp_pipeline.cli import main; main()"
    words = ["serve", str(args.run), "--port", str(args.port), "--max-body", str(BODY_LIMIT)]
    words += ["--slow-after", str(SLOW_SECONDS)]
    with psutil.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True) as server:
        try:
            url = f"http://127.0.0.1:{args.port}"
            server.stdout.readline()  # where it answers
            for _ in range(200):
                urllib.request.urlopen(urllib.request.Request(url, GOOD, {"Content-Type": "application/json"})).read()
            asyncio.run(abuse(args.port, args.count, args.slow, server))
            print(f"the server {'lives' if server.poll() is None else f'ended with {server.returncode}'}")
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
