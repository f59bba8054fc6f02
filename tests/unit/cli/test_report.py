"""`skerry report`: from a file, from a registry, and from the cluster by the names of its objects."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from skerry.cli import cluster
from skerry.cli.main import run
from skerry.optimizer.rendering.files import report_files
from skerry.optimizer.report import Report
from tests.support.reports import candidate, report
from tests.unit.optimizer.rendering.samples import hostile

GROUP = "/apis/skerry.dev/v1alpha1/namespaces"


@dataclass
class Site:
    """A registry and an API server in one: what is under which path."""

    host: str
    folder: Path
    answers: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    def put(self, path: str, document: Any, media_type: str = "application/json") -> bytes:
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.answers[path] = (media_type, content)
        return content

    def publish(self, made: Report, *names: str) -> str:
        """Publish a report, or only some of its files, and return its reference."""
        layers = []
        for file in report_files(made):
            if not names or file.name in names:
                digest = f"sha256:{hashlib.sha256(file.content).hexdigest()}"
                self.put(f"/v2/models/m/blobs/{digest}", file.content, "application/octet-stream")
                title = {"org.opencontainers.image.title": file.name}
                layers.append(
                    {"mediaType": file.media_type, "digest": digest, "size": len(file.content), "annotations": title}
                )
        kind = "application/vnd.oci.image.manifest.v1+json"
        manifest = {"schemaVersion": 2, "mediaType": kind, "config": {}, "layers": layers}
        digest = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
        self.put(f"/v2/models/m/manifests/sha256:{digest}", manifest, kind)
        return f"oci://{self.host}/models/m@sha256:{digest}"

    def job(self, name: str, namespace: str = "vision", **status: Any) -> None:
        self.put(f"{GROUP}/{namespace}/optimizationjobs/{name}", {"metadata": {"name": name}, "status": status})

    def model(self, name: str, **jobs: str) -> None:
        variants = [{"accelerator": it, "optimizationJobName": job} for it, job in jobs.items()]
        self.put(f"{GROUP}/vision/edgemodels/{name}", {"metadata": {"name": name}, "status": {"variants": variants}})


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    answers: dict[str, tuple[str, bytes]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, content = answers.get(self.path.partition("?")[0], ("application/json", b'{"message": "not there"}'))
            self.send_response(200 if self.path.partition("?")[0] in answers else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the base
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    host = f"127.0.0.1:{server.server_address[1]}"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "edge",
        "contexts": [{"name": "edge", "context": {"cluster": "edge", "user": "me", "namespace": "vision"}}],
        "clusters": [{"name": "edge", "cluster": {"server": f"http://{host}"}}],
        "users": [{"name": "me", "user": {}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config), encoding="utf-8")
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    yield Site(host, tmp_path, answers)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    addresses: list[str] = []

    def show(address: str) -> bool:
        addresses.append(address)
        return True

    monkeypatch.setattr(webbrowser, "open", show)
    return addresses


def test_the_summary_of_a_real_report(optimized: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(optimized)]) == 0
    shown = capsys.readouterr().out
    assert "onnxruntime-fp32" in shown
    assert "Passed        ArtifactSize" in shown
    assert "Succeeded: onnxruntime-int8-static is" in shown


@pytest.mark.parametrize(
    ("form", "file"), [("html", "report.html"), ("markdown", "report.md"), ("json", "report.json")]
)
def test_the_forms_are_those_that_optimize_left(
    optimized: Path, capsys: pytest.CaptureFixture[str], form: str, file: str
) -> None:
    assert run(["report", str(optimized / "report.json"), "-o", form]) == 0
    assert capsys.readouterr().out == (optimized / file).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "beginning"), [("r.html", "<!DOCTYPE"), ("r.md", "## "), ("r.json", "{"), ("r", "<!")]
)
def test_the_ending_says_the_form(
    optimized: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, beginning: str
) -> None:
    out = tmp_path / name
    assert run(["report", str(optimized), "--out", str(out)]) == 0
    assert out.read_text(encoding="utf-8").startswith(beginning)
    assert capsys.readouterr().out == f"{out}\n"


def test_open_shows_html_in_the_browser(optimized: Path, opened: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(optimized), "--open"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert opened == [path.as_uri()]
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    shutil.rmtree(path.parent)


def test_from_a_registry(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    reference = site.publish(report(candidate("only", {"LatencyP95": 1.0}), chosen="only"))
    assert run(["report", reference, "-o", "markdown", "--insecure"]) == 0
    assert "**only was chosen" in capsys.readouterr().out


def test_by_the_name_of_the_job(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    reference = site.publish(report(candidate("only", {"LatencyP95": 1.0}), chosen="only"))
    site.job("digits-cpu", reportArtifact=reference)
    assert run(["report", "optjob/digits-cpu", "-o", "markdown", "--insecure"]) == 0
    assert "**only was chosen" in capsys.readouterr().out


def test_nodes_know_the_registry_by_another_name(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    reference = site.publish(report(candidate("only", {"LatencyP95": 1.0}), chosen="only"))
    site.job("digits-cpu", reportArtifact=reference.replace(site.host, "127.0.0.1:1"))
    arguments = ["report", "optimizationjob/digits-cpu", "--insecure", "--patience", "0"]
    assert run(arguments) == os.EX_UNAVAILABLE
    assert "say --registry localhost:5000" in capsys.readouterr().err
    assert run([*arguments, "-o", "markdown", "--registry", site.host]) == 0
    assert "**only was chosen" in capsys.readouterr().out


def test_by_the_name_of_the_model(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.job("digits-cpu", reportArtifact=site.publish(report(reason="for-cpu")))
    site.job("digits-npu", reportArtifact=site.publish(report(reason="for-npu")))
    site.model("digits", cpu="digits-cpu", npu="digits-npu")
    assert run(["report", "emodel/digits"]) == os.EX_USAGE
    assert "EdgeModel digits has variants for cpu, npu; say which with --accelerator" in capsys.readouterr().err
    assert run(["report", "edgemodel/digits", "--accelerator", "npu", "--insecure"]) == 0
    assert "for-npu" in capsys.readouterr().out


def test_objects_that_have_no_report(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.job("busy", stage="Measuring")
    site.model("new")
    for words, message in {
        "optjob/busy": "OptimizationJob busy has no report yet, its stage is Measuring",
        "optjob/none": "there is no OptimizationJob none in the namespace vision",
        "emodel/new": "EdgeModel new has no variants yet",
    }.items():
        assert run(["report", words]) == os.EX_NOINPUT
        assert message in capsys.readouterr().err
    site.job("busy", namespace="other", reportArtifact=site.publish(report()))
    assert run(["report", "optjob/busy", "-n", "other", "--insecure"]) == 0


def test_mistakes(
    tmp_path: Path, optimized: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    text = tmp_path / "text.json"
    text.write_text("{}", encoding="utf-8")
    good = str(optimized)
    for words, code, message in (
        (["nowhere"], os.EX_NOINPUT, "nowhere: there is no such file; name a report.json, oci://"),
        ([str(tmp_path)], os.EX_NOINPUT, "report.json: there is no such file"),
        ([str(text)], os.EX_DATAERR, "is not a report that this version of Skerry can read: skerryVersion"),
        (["optjob/x"], os.EX_CONFIG, "there is no kubeconfig at"),
        ([good, "--open", "-o", "json"], os.EX_USAGE, "--open shows HTML; leave out -o json"),
        ([good, "--out", str(tmp_path / "a" / "b.html")], os.EX_CANTCREAT, "cannot be written: No such file"),
        ([good, "-o", "pdf"], os.EX_USAGE, "pdf"),
    ):
        assert run(["report", *words]) == code
        assert message in " ".join(capsys.readouterr().err.split())


def test_an_artifact_without_a_report(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    reference = site.publish(report(), "report.html")
    assert run(["report", reference, "--insecure"]) == os.EX_DATAERR
    assert "holds no report.json" in capsys.readouterr().err


def test_a_cluster_that_does_not_answer(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    path = site.folder / "kubeconfig"
    path.write_text(path.read_text(encoding="utf-8").replace(site.host, "127.0.0.1:1"), encoding="utf-8")
    assert run(["report", "optjob/x"]) == os.EX_UNAVAILABLE
    assert "the cluster does not answer" in capsys.readouterr().err


def test_what_is_missing_is_named(
    optimized: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda _: None)
    assert run(["report", "optjob/x"]) == os.EX_CONFIG
    assert "pip install '.[cli,operator]'" in capsys.readouterr().err
    monkeypatch.setattr("skerry.cli.errors.find_spec", lambda name: None if name == "jinja2" else name)
    assert run(["report", str(optimized)]) == os.EX_CONFIG
    assert "reading reports needs jinja2: install Skerry" in capsys.readouterr().err


def test_a_report_cannot_act_on_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(report_files(hostile())[0].content)
    assert run(["report", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "onerror=alert(1)" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_rendering_needs_no_heavy_library() -> None:
    program = (
        "import sys; from skerry.cli import reporting; "
        "print([name for name in ('numpy', 'onnx', 'onnxruntime', 'openvino', 'nncf', 'kubernetes', 'aiohttp') "
        "if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
