"""What crosses the network: fetching the sources and publishing the variant. The only module that knows the store."""

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from skerry.api import artifact
from skerry.api.artifact import FACTS_FILE, VariantFacts
from skerry.optimizer.conclude import Outcome
from skerry.optimizer.ledger import AttemptLedger, Record
from skerry.optimizer.rendering.files import report_files
from skerry.store import fetch as store
from skerry.store import image, transport
from skerry.store.errors import NotFoundError, StoreError
from skerry.store.fetch import Fetched
from skerry.store.image import Document, Layer
from skerry.store.references import SCHEME, Reference
from skerry.store.settings import Credentials, StoreSettings

_PROGRESS = "-progress"
_RUN = "run"
_BRIEFLY = 2.0
"""Seconds in which the registry is asked again for what is only a convenience."""


@dataclass(frozen=True)
class Destination:
    """Where variants go: the repository as it is pushed, as nodes pull it, and the tag."""

    push_repository: str
    pull_repository: str
    tag: str


@dataclass(frozen=True)
class Published:
    """The references of what was published, pinned by digest."""

    artifact: str | None
    report: str


@dataclass(frozen=True)
class Transfer:
    """Fetches and publishes with patience.

    Attributes:
        settings: How to reach things.
        read: Credentials for the sources.
        write: Credentials for the destination.
        notify: Is told when something is tried again.
    """

    settings: StoreSettings
    read: Credentials
    write: Credentials
    notify: Callable[[str], None] = lambda _: None

    def fetch(self, uri: str, sha256: str | None, folder: Path) -> Fetched:
        """Bring a source into a folder, verified.

        Raises:
            StoreError: It cannot be had, or is not what was named.
        """
        return store.fetch(
            uri,
            folder,
            sha256=sha256,
            settings=self.settings,
            credentials=self.read.merged(self.write),
            notify=self.notify,
        )

    def ledger(self, where: Destination, folder: Path, run: str) -> "RegistryLedger":
        """Return what an earlier pod of this Job measured, and keep there what this one does.

        Args:
            where: Where variants go.
            folder: Where records are kept here.
            run: What tells this Job from one of the same name that was before it.
        """
        briefly = replace(self.settings, patience_seconds=min(self.settings.patience_seconds, _BRIEFLY))
        reference = Reference.parse(f"{where.push_repository}:{where.tag}{_PROGRESS}")
        return RegistryLedger(folder, reference, run, replace(self, settings=briefly))

    def publish(self, outcome: Outcome, where: Destination, work: Path) -> Published:
        """Push the report in all its forms, and the variant when there is one.

        Raises:
            StoreError: The registry cannot be written.
        """
        variant = None
        if outcome.facts is not None and outcome.folder is not None:
            digest = self._variant(outcome.facts, outcome.folder, where, work)
            variant = f"{SCHEME}{where.pull_repository}@{digest}"
        documents = [Document(file.name, file.media_type, file.content) for file in report_files(outcome.report)]
        reference = Reference.parse(f"{where.push_repository}:{where.tag}-report")
        digest = self._patiently(
            lambda: image.push_documents(
                documents,
                reference,
                artifact_type=artifact.REPORT_ARTIFACT_TYPE,
                settings=self.settings,
                credentials=self.write,
                work=work,
            )
        )
        return Published(variant, f"{SCHEME}{where.pull_repository}@{digest}")

    def _variant(self, facts: VariantFacts, folder: Path, where: Destination, work: Path) -> str:
        # Weights in a layer of their own: variants with equal weights then share it in registries and on nodes.
        weights = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        described = {FACTS_FILE: weights.pop(FACTS_FILE)}
        annotations = {
            artifact.ANNOTATION_FRAMEWORK: facts.framework,
            artifact.ANNOTATION_PRECISION: facts.precision,
            artifact.ANNOTATION_TECHNIQUE: facts.technique,
            artifact.ANNOTATION_ACCELERATOR: facts.accelerator,
            artifact.ANNOTATION_CANDIDATE: facts.name,
            artifact.ANNOTATION_SOURCE_DIGEST: f"sha256:{facts.provenance.source_sha256}",
        }
        if facts.provenance.calibration_sha256 is not None:
            annotations[artifact.ANNOTATION_CALIBRATION_DIGEST] = f"sha256:{facts.provenance.calibration_sha256}"
        reference = Reference.parse(f"{where.push_repository}:{where.tag}")
        return self._patiently(
            lambda: (
                image.push_image(
                    [Layer(weights), Layer(described)],
                    reference,
                    artifact_type=artifact.ARTIFACT_TYPE,
                    annotations=annotations,
                    settings=self.settings,
                    credentials=self.write,
                    work=work,
                ).digest
            )
        )

    def _patiently(self, action: Callable[[], str]) -> str:
        return transport.patiently(action, seconds=self.settings.patience_seconds, notify=self.notify)


class RegistryLedger(AttemptLedger):
    """Records that outlive the pod: they are kept in the registry, whose troubles end nothing.

    As long as it could not be read it is not overwritten either. What a Job of the same name wrote, before it was
    deleted and made anew, does not count: who makes a Job anew wants it measured anew.
    """

    def __init__(self, folder: Path, reference: Reference, run: str, transfer: Transfer) -> None:
        """Read what is there."""
        super().__init__(folder)
        self._reference = reference
        self._run = run
        self._transfer = transfer
        self._seen = self._read()
        if self._seen and self.measured:
            transfer.notify(f"going on after an interruption: {self.measured} candidates were measured already")

    def note(self, record: Record) -> None:
        """Write a record down."""
        super().note(record)
        self._publish()

    def begin(self, wanted: str) -> None:
        """Count an attempt."""
        super().begin(wanted)
        self._publish()

    def fail(self, wanted: str, message: str) -> None:
        """Keep why a candidate failed."""
        super().fail(wanted, message)
        self._publish()

    def _read(self) -> bool:
        """Bring what is in the registry; return whether it is known now what is there."""
        transfer, came = self._transfer, self.folder.with_name(f"{self.folder.name}-came")
        shutil.rmtree(came, ignore_errors=True)
        try:
            image.pull(self._reference, came, settings=transfer.settings, credentials=transfer.write)
        except NotFoundError:
            return True
        except StoreError as error:
            transfer.notify(f"what an earlier try measured cannot be read now: {error}")
            return False
        run = came / _RUN
        if run.is_file() and run.read_text(encoding="utf-8") == self._run:
            self.folder.mkdir(parents=True, exist_ok=True)
            for path in AttemptLedger(came).files():
                if not (self.folder / path.name).exists():
                    path.rename(self.folder / path.name)
        shutil.rmtree(came)
        return True

    def _publish(self) -> None:
        self._seen = self._seen or self._read()
        if not self._seen:
            return
        documents = [Document(_RUN, "text/plain", self._run.encode())]
        documents += [Document(path.name, artifact.RECORD_MEDIA_TYPE, path.read_bytes()) for path in self.files()]
        with contextlib.suppress(StoreError):
            image.push_documents(
                documents,
                self._reference,
                artifact_type=artifact.PROGRESS_ARTIFACT_TYPE,
                settings=self._transfer.settings,
                credentials=self._transfer.write,
                work=self.folder.parent,
            )
