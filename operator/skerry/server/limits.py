"""What clients may ask for; together it bounds the memory that they can take."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The limits of a server.

    Attributes:
        body_bytes: Most bytes of a request, unpacked; all requests together may hold twice as many.
        json_bytes: Most bytes of JSON, which needs up to 17 times its size while it is read.
        head_seconds: Within which a request with a small body must have arrived, and the head of any. The kubelet ends
            a server whose liveness it could not ask for 20 s.
        body_seconds: Within which a larger body must have arrived after its head.
        batch: Most samples of one request where the model leaves their number free.
        waiting: Most requests that wait for the model; further ones get 503.
        connections: Most connections; for a further one, that which waits for its client longest is closed.
    """

    body_bytes: int = 64 << 20
    json_bytes: int = 16 << 20
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    batch: int = 32
    waiting: int = 64
    connections: int = 1000
