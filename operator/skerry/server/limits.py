"""What clients may ask for; together it bounds the memory that they can take."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The limits of a server.

    Attributes:
        body_bytes: Most bytes of a request, unpacked; all requests together may hold twice as many.
        json_bytes: Most bytes of JSON, which needs up to 17 times its size while it is read.
        body_seconds: Within which a request must have arrived.
        batch: Most samples of one request where the model leaves their number free.
        waiting: Most requests that wait for the model; further ones get 503.
    """

    body_bytes: int = 64 << 20
    json_bytes: int = 16 << 20
    body_seconds: float = 30.0
    batch: int = 32
    waiting: int = 64
