"""The page to try a model: what is put into it can't break out, and it works in a browser."""

import json
import re
import shutil
import subprocess
from urllib.parse import quote

import pytest
from serving.servers import TEXTS, classifier, client_of, running, service_of

from nlp_pipeline import Recipe

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def run(tiny_bert, tmp_path_factory):
    return classifier(tiny_bert, tmp_path_factory.mktemp("runs") / "topics")


def test_what_stands_in_the_page_stays_text(run, monkeypatch):
    service = service_of(run)
    service.model.name = "<script>alert(1)</script>{{example}}"
    monkeypatch.setattr(service.shape, "example", lambda: "</script><b>{{name}}")
    with client_of(service) as client:
        answer = client.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "<script>alert" not in answer.text
    assert answer.text.count("&lt;script&gt;alert(1)&lt;/script&gt;{{example}}") == 2
    example = re.search(r'type="application/json">(.*?)</script>', answer.text)[1]
    assert json.loads(example) == "</script><b>{{name}}"


def test_nothing_is_loaded_from_elsewhere(run):
    with client_of(service_of(run)) as client:
        text = client.get("/").text
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', text)


def browse(url, folder, *words):
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=900,700",
        f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=20000", *words, url,
    ]  # fmt: skip
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=240).stdout


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs chromium: apt-get install chromium")
def test_the_page_asks_and_shows_the_answer_in_a_browser(run, tmp_path):
    (expected,) = Recipe.from_pretrained(run).predict([TEXTS[5]])
    with running(service_of(run)) as url:
        page = browse(f"{url}/?inputs={quote(TEXTS[5])}", tmp_path, "--dump-dom")
        browse(f"{url}/?inputs={quote(TEXTS[5])}", tmp_path, f"--screenshot={tmp_path / 'page.png'}")
        wrong = browse(f"{url}/?inputs={quote('[]')}", tmp_path, "--dump-dom")
    cells = re.findall(r"<tr><td>(.*?)</td><td>.*?</td><td>.*?</span>(.*?)</td></tr>", page)
    assert cells[0] == (expected["prediction"], f"{expected['score']:.4f}")
    assert len(cells) == 3
    assert re.search(r'id="state"[^>]*>200, \d+ ms<', page)
    assert re.search(r'class="wrong">[^<]*at least 1 item', wrong)
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
