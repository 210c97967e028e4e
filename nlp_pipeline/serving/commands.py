"""`nlp-pipeline serve` and `nlp-pipeline package`. Heavy packages are imported where they are used."""

import importlib.util
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..errors import MissingExtraError
from .settings import KEYS_VARIABLE, Batching, Limits, Settings

LIMITS, BATCHING, SETTINGS = Limits(), Batching(), Settings()
NEEDED = {
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "httptools": "httptools",
    "prometheus_client": "prometheus-client",
}
"""Packages of the extra, by module."""


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command()(serve)
    app.command()(package)


def serve(
    model: Annotated[str, typer.Argument(help="A run directory, its model folder, or a registry version")],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every one")] = SETTINGS.host,
    port: Annotated[int, typer.Option(help="Port; 0 for a free one", min=0, max=65535)] = SETTINGS.port,
    api_keys: Annotated[
        Path | None, typer.Option(help=f"A file with API keys, one a line; or set {KEYS_VARIABLE}")
    ] = None,
    wait_ms: Annotated[
        float, typer.Option(help="How long a free model waits for as many requests as it found the time before", min=0)
    ] = BATCHING.wait_seconds * 1000,
    batch_tokens: Annotated[int, typer.Option(help="Tokens of a batch, about", min=1)] = BATCHING.tokens,
    max_body: Annotated[int, typer.Option(help="Bytes of a request", min=1)] = LIMITS.body_bytes,
    max_rows: Annotated[int, typer.Option(help="Texts of a request", min=1)] = LIMITS.rows,
    max_characters: Annotated[int, typer.Option(help="Characters of a text", min=1)] = LIMITS.characters,
    max_queue: Annotated[int, typer.Option(help="Rows that may wait; then 429", min=1)] = LIMITS.queue,
    slow_after: Annotated[
        float, typer.Option(help="Seconds that a client may take to send a request", min=0.1)
    ] = LIMITS.body_seconds,
    answer_within: Annotated[
        float, typer.Option(help="Seconds that a request may wait for the model; then 503", min=0.1)
    ] = LIMITS.answer_seconds,
    reload_every: Annotated[
        float, typer.Option(help="Seconds between looks for a newly promoted version; 0 for never", min=0)
    ] = SETTINGS.reload_seconds,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that the model brings or names: read it first")
    ] = False,
) -> None:
    """Serve a model over HTTP: the Hugging Face Inference API's shapes, and a page to try it."""
    from .settings import read_keys

    keys = read_keys(api_keys)
    for module, package in NEEDED.items():
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError("nlp-pipeline serve", package, "serving")
    from .running import run

    limits = Limits(
        body_bytes=max_body, rows=max_rows, characters=max_characters, queue=max_queue, body_seconds=slow_after,
        answer_seconds=answer_within,
    )  # fmt: skip
    batching = Batching(batch_tokens, wait_ms / 1000)
    run(model, Settings(host, port, keys, reload_every, limits=limits, batching=batching), trust_remote_code)


def package(
    model: Annotated[str, typer.Argument(help="A run directory, its model folder, or a registry version")],
    to: Annotated[Literal["docker", "inference-endpoint", "sagemaker"], typer.Option(help="The host")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make")],
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Pack a model that brings or names Python code")
    ] = False,
) -> None:
    """Write a folder that runs a model at a host: with its files, exact requirements and this package."""
    from .packaging import write_package

    write_package(model, to, output, trust_remote_code)
    commands = {
        "docker": f"docker build -t {output.name} {output} && docker run -p 8000:8000 {output.name}",
        "inference-endpoint": f"upload it as a model repository: hf upload USER/{output.name} {output}",
        "sagemaker": f"tar -czf model.tar.gz -C {output} .",
    }
    print(f"{output}: {commands[to]}")
