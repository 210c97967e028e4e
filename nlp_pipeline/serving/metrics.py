"""What Prometheus reads at /metrics."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """The figures of one server, in a registry of their own."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("nlp_pipeline_requests", "Requests answered", ("route", "status"), registry=registry)
        self.seconds = Histogram(
            "nlp_pipeline_request_seconds", "From a request's head to its answer", ("route",), buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        self.waiting = Gauge("nlp_pipeline_waiting_rows", "Rows that wait for the model", registry=registry)
        self.waited = Histogram(
            "nlp_pipeline_wait_seconds", "How long requests wait for the model", buckets=SECONDS, registry=registry
        )
        self.batch_rows = Histogram("nlp_pipeline_batch_rows", "Rows of a batch", buckets=ROWS, registry=registry)
        self.batch_seconds = Histogram(
            "nlp_pipeline_batch_seconds", "How long the model takes for a batch", buckets=SECONDS, registry=registry
        )
        self.reloads = Counter(
            "nlp_pipeline_reloads", "Models taken in place of another", ("outcome",), registry=registry
        )
        self.model = Gauge("nlp_pipeline_model", "1 for the model that answers", ("name",), registry=registry)

    def batch(self, rows: int, seconds: float) -> None:
        """A forward pass over the rows of some requests."""
        self.batch_rows.observe(rows)
        self.batch_seconds.observe(seconds)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """A request; `route` is the path as the application has it, never what a client makes up."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def serving(self, name: str) -> None:
        """Which model answers from now on."""
        self.model.clear()
        self.model.labels(name).set(1)

    def text(self) -> bytes:
        """In Prometheus's format."""
        return generate_latest(self.registry)

    def value(self, name: str, labels: Iterable[tuple[str, str]] = ()) -> float:
        """A figure as it is now; 0 where there is none yet."""
        return self.registry.get_sample_value(name, dict(labels)) or 0.0
