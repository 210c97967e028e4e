#!/usr/bin/env python
"""Requests a second, and how long each takes: `nlp-pipeline serve` beside FastAPI around transformers.pipeline.

Each server in a process of its own, in turn, a text a request, --seconds for each number of clients, --rounds times;
before that each is asked for --warm seconds. The load comes from wrk (`apt-get install wrk`), whose clients each send
the next request as soon as they have the answer; it takes a few per cent of a core. Beside them: the rate at which
`predict` answers the same texts; and the processor time of the server's process for a request, which other work on the
machine changes less.

  python benchmarks/serving.py --run runs/banking77 --rows DATA/banking77/test.jsonl
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

HERE = Path(__file__).parent
PEER = HERE / "peers" / "fastapi_pipeline.py"
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
SCRIPT = """
local bodies, place = {}, 0
for line in io.lines("BODIES") do bodies[#bodies + 1] = line end
wrk.method, wrk.headers["Content-Type"] = "POST", "application/json"
function request()
  place = place % #bodies + 1
  return wrk.format(nil, "/", nil, bodies[place])
end
"""


def servers(run: Path) -> dict[str, list[str]]:
    """The command of each, without its port."""
    serve = [sys.executable, "-c", "from nlp_pipeline.cli import main; main()", "serve", str(run)]
    peer = [sys.executable, str(PEER), "--model", str(run / "model")]
    return {
        "nlp-pipeline serve": serve,
        "pipeline, def": [*peer, "--mode", "threads"],
        "pipeline, async def": [*peer, "--mode", "loop"],
    }


@contextmanager
def server(command: list[str], port: int) -> Iterator[tuple[str, psutil.Process]]:
    """A server that answers: its URL and process; ended at the end."""
    url = f"http://127.0.0.1:{port}"
    with psutil.Popen([*command, "--port", str(port)], stdout=subprocess.DEVNULL) as process:
        try:
            for _ in range(3000):
                if process.poll() is not None:
                    raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
                try:
                    urllib.request.urlopen(url + "/openapi.json", timeout=5).read()
                    break
                except OSError:
                    time.sleep(0.2)
            yield url, process
        finally:
            process.terminate()


def load(at: tuple[str, psutil.Process], script: Path, clients: int, seconds: float) -> dict[str, float]:
    """Requests a second, milliseconds by percentile and of processor time, and how many were not answered with 200."""
    url, process = at
    before = sum(process.cpu_times()[:2])
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds:g}s", "--timeout", "60s", "--latency", "-s", str(script), url]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = {"rate": float(re.search(r"Requests/sec:\s+([\d.]+)", told)[1])}
    busy = sum(process.cpu_times()[:2]) - before
    found["cpu"] = 1000 * busy / max(1, int(re.search(r"(\d+) requests in", told)[1]))
    for name in ("50", "99"):
        number, unit = re.search(rf"^\s+{name}%\s+([\d.]+)(us|ms|s|m)", told, re.M).groups()
        found[f"p{name}"] = float(number) * UNITS[unit]
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", told)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", told)
    found["failed"] = int(failed[1] if failed else 0) + sum(map(int, errors.groups() if errors else ()))
    return found


def predict_rate(run: Path, rows: Path) -> float:
    """Rows a second of `predict`, loading not counted."""
    code = (
        "import json, sys, time\nfrom nlp_pipeline import Recipe\n"
        "texts = [json.loads(line)['text'] for line in open(sys.argv[2])]\n"
        "recipe = Recipe.from_pretrained(sys.argv[1])\nrecipe.predict(texts[:64])\nbegan = time.perf_counter()\n"
        "recipe.predict(texts)\nprint(len(texts) / (time.perf_counter() - began))"
    )
    told = subprocess.run([sys.executable, "-c", code, str(run), str(rows)], check=True, capture_output=True, text=True)
    return float(told.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a run directory of text classification")
    parser.add_argument("--rows", type=Path, required=True, help="JSON Lines with a column text")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--warm", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", nargs="+", help="names of servers")
    parser.add_argument("--serve-options", nargs="+", default=[], help="of nlp-pipeline serve, without their dashes")
    parser.add_argument("--port", type=int, default=8790)
    args = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("needs wrk: apt-get install wrk")
    commands = {name: words for name, words in servers(args.run).items() if not args.only or name in args.only}
    if "nlp-pipeline serve" in commands:
        commands["nlp-pipeline serve"] += [f"--{word}" for word in args.serve_options]
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    predicted = []
    with tempfile.TemporaryDirectory() as folder:
        bodies, script = Path(folder) / "bodies.jsonl", Path(folder) / "load.lua"
        texts = [json.loads(line)["text"] for line in args.rows.read_text().splitlines()]
        asked = [{"inputs": text, "parameters": {"top_k": 1}} for text in texts]
        bodies.write_text("".join(json.dumps(body) + "\n" for body in asked))
        script.write_text(SCRIPT.replace("BODIES", str(bodies)))
        for _ in range(args.rounds):
            predicted.append(predict_rate(args.run, args.rows))
            for name, command in commands.items():
                with server(command, args.port) as at:
                    load(at, script, 8, args.warm)
                    for clients in args.clients:
                        found.setdefault((name, clients), []).append(load(at, script, clients, args.seconds))
                        print(name, clients, found[name, clients][-1], file=sys.stderr, flush=True)
    rate = statistics.median(predicted)
    titles = ["server", "clients", "requests/s", "p50 ms", "p99 ms", "CPU ms a request", "not answered", "of predict"]
    print(f"| {' | '.join(titles)} |\n{'|---' * len(titles)}|")
    for (name, clients), each in found.items():
        median = {key: statistics.median(one[key] for one in each) for key in each[0]}
        numbers = f"{median['rate']:.1f} | {median['p50']:.1f} | {median['p99']:.1f} | {median['cpu']:.2f}"
        failed = sum(one["failed"] for one in each)
        print(f"| {name} | {clients} | {numbers} | {failed:.0f} | {median['rate'] / rate:.0%} |")
    print(f"\npredict: {rate:.1f} rows/s ({', '.join(f'{one:.1f}' for one in predicted)})")
    for clients in args.clients:
        ours = found.get(("nlp-pipeline serve", clients))
        for name in commands:
            if ours and name != "nlp-pipeline serve":
                ratios = [a["rate"] / max(b["rate"], 1e-9) for a, b in zip(ours, found[name, clients], strict=True)]
                print(f"{clients} clients: {statistics.median(ratios):.2f} times {name}")


if __name__ == "__main__":
    main()
