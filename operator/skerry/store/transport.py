"""HTTP with typed errors, patience and bounds.

httpx, and not an OCI library: oras-py 0.2 knows one transport for all hosts, reads manifests and errors loosely, and
cannot make images with `diff_ids`, which is what containerd mounts. What remains of the distribution protocol is small.
"""

import random
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import httpx

from skerry.store.errors import AccessError, BadInputError, NotFoundError, UnreachableError
from skerry.store.settings import StoreSettings

CONNECT_SECONDS: Final = 15.0
READ_SECONDS: Final = 60.0
HTTP_PORT: Final = 80
_EXCERPT: Final = 300
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 20.0
T = TypeVar("T")
Notify = Callable[[str], None]
"""Is told when something is tried again."""


def client(settings: StoreSettings) -> httpx.Client:
    """Return an HTTP client that trusts the system's authorities and those of the settings.

    It follows redirects, but sends nothing in the clear that the settings do not allow: neither where an https:// URL
    redirects to http://, nor where a registry sends us for a token.

    Raises:
        AccessError: The bundle of extra authorities is not PEM.
    """

    def guard(request: httpx.Request) -> None:
        check_clear_text(request.url, settings)

    timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    return httpx.Client(
        verify=tls_context(settings), timeout=timeout, follow_redirects=True, event_hooks={"request": [guard]}
    )


def tls_context(settings: StoreSettings) -> ssl.SSLContext:
    """Return what trusts the system's authorities and those of the settings.

    Raises:
        AccessError: The bundle of extra authorities is not PEM.
    """
    context = ssl.create_default_context()
    if settings.ca_bundle:
        try:
            context.load_verify_locations(cadata=settings.ca_bundle)
        except (ValueError, ssl.SSLError) as error:
            message = f"the bundle of certificate authorities is not PEM: {error}"
            raise AccessError(message) from error
    return context


def check_clear_text(url: httpx.URL, settings: StoreSettings) -> None:
    """Refuse plain HTTP that the settings do not allow.

    Raises:
        AccessError: It is not allowed.
    """
    if url.scheme == "https" or _clear_text_allowed(url, settings):
        return
    # Without the query: where a server redirects to, it may hold a signature.
    message = (
        f"{url.host} would be asked by plain HTTP ({url.copy_with(query=None)}), which is not allowed here; "
        "list the host as insecure, or allow HTTP, if you trust the network"
    )
    raise AccessError(message)


def _clear_text_allowed(url: httpx.URL, settings: StoreSettings) -> bool:
    host = f"[{url.host}]" if ":" in url.host else url.host
    names = {f"{host}:{url.port or HTTP_PORT}", *([host] if url.port is None else [])}
    return settings.allow_http or not names.isdisjoint(settings.insecure)


@contextmanager
def mapped(what: str) -> Iterator[None]:
    """Turn httpx's errors into ours; `what` begins the message."""
    try:
        yield
    except httpx.ConnectError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            message = f"{what}: the server's certificate is not trusted ({error}); give its authority in the CA bundle"
            raise AccessError(message) from error
        if "WRONG_VERSION_NUMBER" in str(error) or "RECORD_LAYER" in str(error):
            message = (
                f"{what}: the server speaks plain HTTP; if you trust the network, list its host as insecure "
                "(--insecure, the chart's registry.insecure)"
            )
            raise AccessError(message) from error
        message = f"{what}: cannot connect: {error}"
        raise UnreachableError(message) from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.TooManyRedirects) as error:
        message = f"{what}: the address cannot be used: {error}"
        raise BadInputError(message) from error
    except (httpx.TransportError, httpx.DecodingError) as error:
        message = f"{what}: {error!r}"
        raise UnreachableError(message) from error


def check(response: httpx.Response, what: str) -> None:
    """Raise what a status code means; `what` begins the message.

    Raises:
        NotFoundError: 404.
        AccessError: 401 or 403, or any other error of the request.
        UnreachableError: 408, 429 or a server's error.
    """
    code = response.status_code
    if code < httpx.codes.BAD_REQUEST:
        return
    if code == httpx.codes.NOT_FOUND:
        message = f"{what}: not found (404)"
        raise NotFoundError(message)
    if (
        code in {httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS}
        or code >= httpx.codes.INTERNAL_SERVER_ERROR
    ):
        message = f"{what}: the server answered {code}"
        raise UnreachableError(message, retry_after_seconds=retry_after(response.headers.get("Retry-After", "")))
    if code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        message = f"{what}: the server denied access ({code}); check the credentials"
        raise AccessError(message)
    begin = response.content if response.is_stream_consumed else next(response.iter_bytes(_EXCERPT), b"")
    message = f"{what}: the server answered {code}: {begin[:_EXCERPT].decode(errors='replace').strip()}"
    raise AccessError(message)


def retry_after(text: str) -> float:
    """Return the seconds of a `Retry-After` header; its form with a date, which is rare, counts as 0."""
    return float(text) if text.isascii() and text.isdecimal() else 0.0


def patiently(
    action: Callable[[], T],
    *,
    seconds: float,
    notify: Notify = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    jitter: Callable[[], float] = random.random,
) -> T:
    """Do something again while servers are unreachable, with growing jittered pauses, for so many seconds.

    A server that says when to come back is asked again then, not before.

    Raises:
        UnreachableError: It still failed after that time.
    """
    deadline = clock() + seconds
    pause = FIRST_PAUSE
    while True:
        try:
            return action()
        except UnreachableError as error:
            wait = max(pause * (0.5 + jitter()), error.retry_after_seconds)
            if clock() + wait > deadline:
                raise
            notify(f"{error}; trying again")
            sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)
