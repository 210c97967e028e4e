"""The OpenAPI document says what the server does: schemathesis asks by it, and finds no answer that it doesn't name."""

import os
import subprocess
import sys

import pytest
from serving.servers import classifier, running, service_of, trained

from nlp_pipeline.tasks import task_class

KEY = "a-key-of-the-tests-only"
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "negative_data_rejection,positive_data_acceptance,unsupported_method,missing_required_header,ignored_auth"
)


def ask(url, folder, *more):
    words = [
        "run",
        f"{url}/openapi.json",
        "--checks",
        CHECKS,
        "--max-examples",
        "25",
        "--seed",
        "1",
        "--no-color",
        *more,
    ]
    code = "from schemathesis.cli import schemathesis; schemathesis()"
    return subprocess.run([sys.executable, "-c", code, *words], cwd=folder, env=os.environ | {"PYTHONPATH": ""},
                          capture_output=True, text=True, check=False)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("task", ["text-classification", "text-generation", "multiple-choice"])
def test_schemathesis_finds_nothing(tiny_bert, tmp_path, task):
    if task == "text-classification":
        run = classifier(tiny_bert, tmp_path / "run")
    elif task == "multiple-choice":
        rows = [{"prompt": f"the card {i}", "choices": ["is late", "is a parcel"], "label": i % 2} for i in range(12)]
        run = trained(task_class(task), tiny_bert, tmp_path / "run", rows)
    else:
        from tasks.chat_models import write_tiny_llama

        rows = [{"text": f"please help me, where is my parcel {i}"} for i in range(12)]
        llama = write_tiny_llama(tmp_path / "llama", [row["text"] for row in rows])
        run = trained(task_class(task), llama, tmp_path / "run", rows)
    limits = {"rows": 8, "characters": 500, "new_tokens": 4}
    with running(service_of(run, limits=limits)) as url:
        done = ask(url, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_schemathesis_with_keys(tiny_bert, tmp_path):
    run = classifier(tiny_bert, tmp_path / "run")
    with running(service_of(run, keys=(KEY,), limits={"rows": 8, "characters": 500})) as url:
        done = ask(url, tmp_path, "-H", f"Authorization: Bearer {KEY}")
    assert done.returncode == 0, done.stdout + done.stderr
