"""Counts and times of a server, for Prometheus. No label holds what a client wrote."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The numbers of one server, beside those of others in the same process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "memspan_requests",
            "Requests, by route, method and status.",
            ("route", "method", "status"),
            registry=registry,
        )
        self.seconds = Histogram(
            "memspan_e2e_request_latency_seconds",
            "Seconds from the head of a request to the end of its reply.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.first_token = Histogram(
            "memspan_time_to_first_token_seconds",
            "Seconds of a turn until its first text, without those in the queue.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.prompt_tokens = Counter("memspan_prompt_tokens", "Tokens of prompts.", registry=registry)
        self.memory_tokens = Counter(
            "memspan_memory_tokens", "Tokens of prompts that came from a memory.", registry=registry
        )
        self.answer_tokens = Counter("memspan_generation_tokens", "Tokens of replies.", registry=registry)
        self.left = Counter("memspan_cancelled", "Turns whose clients left before the end.", registry=registry)

    def watch(self, name: str, about: str, value: Callable[[], float]) -> None:
        """Show a number that is looked up when it is asked for."""
        Gauge(name, about, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """All numbers in Prometheus' format."""
        return generate_latest(self.registry)
