"""Pushes at the same time, and pushes that are killed: versions are whole, readers see the old ones or the new one."""

import json
import random
import shutil
import subprocess
import sys
import threading
import time

import pytest
from registry.runs import finished_run

from nlp_pipeline.registry.address import parse
from nlp_pipeline.registry.pulling import pull
from nlp_pipeline.registry.versions import open_registry

# The process tells when it begins to store, so that kills fall into the storing and not into Python's start.
PUSH = """
import sys
from pathlib import Path
from nlp_pipeline.registry.pushing import push
print("ready", flush=True)
sys.stdin.readline()
print(push(Path(sys.argv[1]), sys.argv[2], "production", verify=False).number, flush=True)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_bert):
    return finished_run(tiny_bert, tmp_path_factory.mktemp("kill") / "run")


def start(run, target):
    process = subprocess.Popen([sys.executable, "-c", PUSH, str(run), target], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


def go(process):
    process.stdin.write("go\n")
    process.stdin.flush()


def whole(registry, name, folder):
    """Read every version from end to end; returns their numbers."""
    numbers = registry.numbers(name)
    for number in numbers:
        version = registry.find(parse(f"file:{registry.root}/{name}:{number}"))
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        registry.fetch(version, folder)
    return numbers


def test_twenty_processes_get_twenty_versions(run, tmp_path):
    target = f"file:{tmp_path}/models/topics"
    processes = []
    for number in range(20):
        copy = shutil.copytree(run, tmp_path / f"run-{number}")
        (copy / "model" / "README.md").write_text(f"push {number}\n")
        processes.append(start(copy, target))
    for process in processes:
        go(process)
    answers = [process.communicate(timeout=200)[0] for process in processes]
    assert sorted(int(answer) for answer in answers) == list(range(1, 21))
    registry = open_registry(parse(target).root)
    assert whole(registry, "topics", tmp_path / "read") == list(range(1, 21))
    cards = []
    for number in range(1, 21):
        pull(f"{target}:{number}", tmp_path / f"pulled-{number}")
        cards.append((tmp_path / f"pulled-{number}" / "README.md").read_text())
    assert sorted(cards) == sorted(f"push {number}\n" for number in range(20))  # none lost, none twice
    assert 1 <= registry.aliases("topics")["production"] <= 20


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_hundred_kills_leave_the_old_version_or_the_whole_new_one(run, tmp_path):
    target = f"file:{tmp_path}/models/topics"
    registry = open_registry(parse(target).root)
    chance = random.Random(0)
    copy = shutil.copytree(run, tmp_path / "copy")
    began = time.monotonic()
    first = start(copy, target)
    go(first)
    first.communicate(timeout=100)
    storing = time.monotonic() - began
    faults, stop, reads = [], threading.Event(), [0]

    def read():
        while not stop.is_set():
            try:
                folder = tmp_path / "reader"
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                registry.fetch(registry.find(parse(f"{target}@production")), folder)
                reads[0] += 1
            except Exception as error:
                faults.append(repr(error))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    inside = done = 0
    longest = min(0.2, storing)
    for number in range(100):
        (copy / "model" / "README.md").write_text(f"push {number}\n")
        process = start(copy, target)
        go(process)
        time.sleep(chance.random() * longest)
        ended = process.poll() is not None
        process.kill()  # it may have ended by itself
        printed, _ = process.communicate()
        done += bool(printed.strip())
        inside += not ended and not printed.strip()
        longest = max(0.01, longest * 0.8) if printed.strip() else min(0.5, longest * 1.1)
        assert registry.numbers("topics") == list(range(1, len(registry.numbers("topics")) + 1))
    stop.set()
    reader.join()
    print(json.dumps({"kills": 100, "inside": inside, "done": done, "reads": reads[0]}))
    assert not faults, faults[:3]
    assert inside >= 20
    assert reads[0] > 100
    whole(registry, "topics", tmp_path / "read")
    last = start(copy, target)
    go(last)
    number = int(last.communicate(timeout=100)[0])
    assert registry.aliases("topics") == {"production": number}
    registry.prune(older_than=0)
    assert not list((tmp_path / "models" / ".writing").iterdir())
    assert whole(registry, "topics", tmp_path / "read")[-1] == number
