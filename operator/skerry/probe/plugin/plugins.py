"""The probe's side: what to offer is told from its main loop, and served by a thread."""

import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from skerry.probe.plugin.stock import Offer, once

FOLDER = Path("/var/lib/kubelet/device-plugins")
POLL_SECONDS = 1.0
CLOSE_SECONDS = 4.0
"""Less than the grace period of the probe's pod."""


def _write_line(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _give_up() -> None:
    """End the process at once: the kubelet starts it anew, and stale sockets do not matter."""
    os._exit(os.EX_SOFTWARE)


class DevicePlugins:
    """Offers devices to the kubelet of this node; may be used from any thread.

    Args:
        folder: Folder of kubelet.sock, as the kubelet names it too: it is given our sockets' names in it.
        cdi: Folder for files of the Container Device Interface (`skerry.probe.plugin.cdi.FOLDER`), where the container
            runtime reads such; None: the kubelet is told device files.
        poll_seconds: How often to look whether the kubelet restarted.
        say: Tells people, one line at a time; called from any thread.
        give_up: What to do after an error that nobody foresaw; it was told on standard error.
    """

    def __init__(
        self,
        folder: Path = FOLDER,
        cdi: Path | None = None,
        *,
        poll_seconds: float = POLL_SECONDS,
        say: Callable[[str], None] = _write_line,
        give_up: Callable[[], None] = _give_up,
    ) -> None:
        self._folder, self._cdi, self._poll_seconds, self._say, self._give_up = folder, cdi, poll_seconds, say, give_up
        self._lock = threading.Lock()
        self._wanted: Offer | None = {}
        self._thread: threading.Thread | None = None
        self._notify: Callable[[], object] = lambda: None

    def offer(self, devices: Offer) -> None:
        """Offer these devices, by accelerator, and no others; the same again changes nothing.

        None leaves an accelerator to somebody else's plugin. One that is missing, or has no devices, has lost all that
        it had: they are listed as unhealthy. A device that two accelerators have is offered by the first. Returns at
        once; nothing starts before there is a device.

        Raises:
            RuntimeError: It was closed.
        """
        wanted, lines = once(devices)
        with self._lock:
            if self._wanted is None:
                message = "the device plugins are closed"
                raise RuntimeError(message)
            if wanted == self._wanted:
                return
            self._wanted = wanted
            for line in lines:
                self._say(line)
            if self._thread is None and any(wanted.values()):
                # A daemon: an end without `close` is an end all the same.
                self._thread = threading.Thread(target=self._run, name="device-plugins", daemon=True)
                self._thread.start()
            self._notify()

    def close(self) -> None:
        """Stop serving and remove the sockets; CDI files stay, as containers may start while the probe is away."""
        with self._lock:
            self._wanted = None
            thread = self._thread
            self._notify()
        if thread is not None:
            thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        try:
            import asyncio  # noqa: PLC0415 - 11 MB

            from skerry.probe.plugin.serving import Settings, serve  # noqa: PLC0415 - heavy

            settings = Settings(self._folder, self._cdi, self._poll_seconds, self._say)
            asyncio.run(serve(settings, self._read, self._ready))
        except Exception:  # noqa: BLE001 - told, and the end
            traceback.print_exc()
            self._give_up()

    def _read(self) -> Offer | None:
        with self._lock:
            return self._wanted

    def _ready(self, notify: Callable[[], object]) -> None:
        def unless_ended() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                notify()

        with self._lock:
            self._notify = unless_ended
