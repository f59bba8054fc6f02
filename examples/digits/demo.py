"""`make demo`: from a bare machine to a measured, gated, served model on a real cluster.

Each step says what it does; running it again is safe and fast. The cluster stays up afterwards.
"""

import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.http as triton
from rich.console import Console
from rich.live import Live
from rich.table import Table

from devcluster import Cluster, DevclusterError, parts

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WORK = ROOT / ".work" / "digits"
SYSTEM = "skerry-system"
NAMESPACE = "vision"
NAME = "digits"
DEADLINE_SECONDS = 1200
POLL_SECONDS = 2.0
KEPT_PERCENT = 95.0
FILES = {"model": ("digits.onnx", "models/digits"), "test": ("digits-test.npz", "data/digits-test")}
FILES["calibration"] = ("digits-calibration.npz", "data/digits-calibration")

console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


@contextlib.contextmanager
def part(title: str, times: dict[str, float]) -> Iterator[None]:
    """Say what begins, and keep how long it took."""
    console.rule(f"[bold]{title}")
    started = time.monotonic()
    yield
    times[title] = time.monotonic() - started


def train() -> None:
    """Train the classifier, unless that is done since the script changed."""
    since = (HERE / "train.py").stat().st_mtime
    if all((WORK / file).exists() and (WORK / file).stat().st_mtime >= since for file, _ in FILES.values()):
        console.print(f"the trained model is in {WORK.relative_to(ROOT)}")
        return
    subprocess.run(
        [sys.executable, str(HERE / "train.py"), str(WORK)], check=True, env={**os.environ, "JAX_PLATFORMS": "cpu"}
    )


def install(cluster: Cluster) -> None:
    """Install Skerry with Helm, with the images that were built."""
    images = cluster.images()
    cluster.load(images.values())
    values = [word for name, image in images.items() for word in ("--set", f"images.{name}={image}")]
    command = (
        "upgrade",
        "--install",
        "skerry",
        ROOT / "charts" / "skerry",
        "--namespace",
        SYSTEM,
        "--create-namespace",
    )
    console.print(cluster.helm(*command, *values, "--wait", "--timeout", "300s").strip())


@contextlib.contextmanager
def forwarded(cluster: Cluster, namespace: str, service: str, port: int) -> Iterator[int]:
    """Reach a Service on a free local port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        local = probe.getsockname()[1]
    command = [str(parts.kubectl()), "--kubeconfig", str(cluster.kubeconfig), "--namespace", namespace]
    command += ["port-forward", f"service/{service}", f"{local}:{port}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", local), timeout=1):
                break
            if time.monotonic() > deadline or process.poll() is not None:
                message = f"cannot reach service {namespace}/{service} by kubectl port-forward"
                raise DemoError(message)
            time.sleep(0.2)
        yield local
    finally:
        process.terminate()
        process.wait()


def push(cluster: Cluster) -> None:
    """Push model and data to the embedded registry with `skerry push`."""
    secret = cluster.get("secret", "registry-push", "--namespace", SYSTEM)[0]
    config = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))
    password = next(iter(config["auths"].values()))["password"]
    with forwarded(cluster, SYSTEM, "registry", 5000) as port:
        for kind, (file, repository) in FILES.items():
            where = f"oci://localhost:{port}/{repository}:1.0"
            words = ["push", "--type", "model" if kind == "model" else "data", str(WORK / file), where, "--insecure"]
            done = subprocess.run(
                [sys.executable, "-m", "skerry.cli.main", *words, "--username", "skerry", "--password-stdin"],
                input=password,
                text=True,
                capture_output=True,
                check=False,
            )
            if done.returncode:
                message = f"skerry push {file}: {done.stderr.strip()}"
                raise DemoError(message)
            console.print(f"pushed {file} as oci://registry.{SYSTEM}:5000/{repository}:1.0")


def apply(cluster: Cluster) -> None:
    """Apply the two objects, into a namespace that admits only restricted pods."""
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }
    cluster.kubectl("apply", "--server-side", "--filename", "-", text=json.dumps(namespace))
    for name in ("edgemodel.yaml", "edgedeployment.yaml"):
        console.print(cluster.kubectl("apply", "--filename", HERE / name).strip())


def ready(document: dict[str, Any]) -> tuple[str, str, str]:
    """Return status, reason and message of an object's Ready condition."""
    conditions = document.get("status", {}).get("conditions", [])
    found: dict[str, str] = next((item for item in conditions if item["type"] == "Ready"), {})
    return found.get("status", ""), found.get("reason", "…"), found.get("message", "")


def view(model: dict[str, Any], jobs: list[dict[str, Any]], deployment: dict[str, Any]) -> Table:
    """Return what goes on, as a table."""
    table = Table(box=None, pad_edge=False)
    for column in ("object", "reason", "stage", "%", "message"):
        table.add_column(column, overflow="fold")
    table.add_row(f"edgemodel/{NAME}", ready(model)[1], "", "", ready(model)[2][:90])
    for job in jobs:
        status = job.get("status", {})
        candidates = status.get("candidates", [])
        told = ", ".join(f"{item['name']} {item.get('verdict', '')}".strip() for item in candidates)
        row = (f"optjob/{job['metadata']['name']}", "", status.get("stage", ""), str(status.get("progressPercent", "")))
        table.add_row(*row, told[-90:])
    table.add_row(f"edgedeployment/{NAME}", ready(deployment)[1], "", "", ready(deployment)[2][:90])
    return table


def wait(cluster: Cluster) -> dict[str, Any]:
    """Watch until the deployment serves; return the model.

    Raises:
        DemoError: The model failed, or it took too long.
    """
    deadline = time.monotonic() + DEADLINE_SECONDS
    shown = ""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while time.monotonic() < deadline:
            model = cluster.get("edgemodel", NAME, "--namespace", NAMESPACE)[0]
            jobs = cluster.get("optimizationjobs", "--namespace", NAMESPACE)
            deployment = cluster.get("edgedeployment", NAME, "--namespace", NAMESPACE)[0]
            live.update(view(model, jobs, deployment), refresh=True)
            line = f"{ready(model)[1]} {[job.get('status', {}).get('stage') for job in jobs]} {ready(deployment)[1]}"
            if not console.is_terminal and line != shown:
                console.print(f"  {line}")
                shown = line
            if ready(model)[0] == "True" and ready(deployment)[0] == "True":
                return model
            if ready(model)[1] in {"GatesFailed", "BadModel", "BadData", "BadConfiguration", "InternalError"}:
                message = f"{ready(model)[1]}: {ready(model)[2]}"
                raise DemoError(message)
            time.sleep(POLL_SECONDS)
    message = f"not served after {DEADLINE_SECONDS} s; see `kubectl --namespace {NAMESPACE} describe edgemodel {NAME}`"
    raise DemoError(message)


def ask(cluster: Cluster) -> tuple[float, dict[str, Any]]:
    """Send the real test images with tritonclient; return the accuracy in percent and the served model's metadata."""
    data = np.load(WORK / "digits-test.npz")
    right = 0
    with forwarded(cluster, NAMESPACE, NAME, 8080) as port:
        client = triton.InferenceServerClient(f"localhost:{port}", network_timeout=60.0)
        for image, label in zip(data["image"], data["labels"], strict=True):
            tensor = triton.InferInput("image", [1, *image.shape], "FP32")
            tensor.set_data_from_numpy(image[None])
            scores = client.infer(NAME, [tensor]).as_numpy("scores")
            right += int(scores is not None and scores.argmax() == label)
        metadata: dict[str, Any] = client.get_model_metadata(NAME)["skerry"]
        client.close()
    return 100.0 * right / len(data["labels"]), metadata


def show_figures(model: dict[str, Any], job: dict[str, Any]) -> None:
    """Print every candidate's figures, and the chosen one's gates."""
    table = Table(title=f"candidates on {job['status']['host']['cpuModel']}", title_justify="left")
    shown = ("Accuracy", "LatencyP50", "LatencyP95", "Throughput", "ModelMemory", "ArtifactSize")
    for column in ("candidate", "computes in", *shown, "pareto", "verdict"):
        table.add_column(column)
    chosen = job["status"].get("chosen")
    for candidate in job["status"]["candidates"]:
        figures = {figure["name"]: f"{figure['value']} {figure['unit']}" for figure in candidate.get("metrics", [])}
        name = candidate["name"] + (" ← served" if candidate["name"] == chosen else "")
        row = [name, candidate.get("executionPrecision", "")]
        row += [figures.get(metric, "") for metric in shown]
        table.add_row(*row, "yes" if candidate.get("pareto") else "", candidate.get("verdict", ""))
    console.print(table)
    console.print(f"  measured at {job['status']['completionTime']}")
    variant = model["status"]["variants"][0]
    for figure in variant["metrics"]:
        if "verdict" in figure:
            console.print(
                f"  gate {figure['name']}: {figure['verdict']} "
                f"({figure.get('baseline', '?')} → {figure['value']} {figure['unit']})"
            )
    console.print(f"  {variant['reason']}: {variant['message']}")


def run() -> None:
    """Do all of it."""
    times: dict[str, float] = {}
    cluster = Cluster.default()
    console.print(
        "A first run takes about 20 minutes on 2 cores where no image registry can be reached, because the cluster "
        "and all images are built from source then; later runs take 2 minutes."
    )
    with part("1. a real cluster", times):
        cluster.up()
    with part("2. a model to optimize", times):
        train()
    with part("3. images and Helm install", times):
        install(cluster)
    with part("4. model and data into the registry", times):
        push(cluster)
    with part("5. optimize, measure, gate, roll out", times):
        apply(cluster)
        model = wait(cluster)
    programs = dict.fromkeys(str(path.parent) for path in (parts.kubectl(), parts.helm(), Path(sys.executable)))
    job = cluster.get(
        "optimizationjob", model["status"]["variants"][0]["optimizationJobName"], "--namespace", NAMESPACE
    )[0]
    show_figures(model, job)
    with part("6. the test images, asked of the served model", times):
        accuracy, served = ask(cluster)
    figures = next(item for item in job["status"]["candidates"] if item["name"] == "baseline")["metrics"]
    baseline = float(next(figure["value"] for figure in figures if figure["name"] == "Accuracy"))
    console.print(
        f"accuracy seen by the client: {accuracy:.2f} % (baseline {baseline:.2f} %), served by {served['variant']} "
        f"on {served['executionDevice']}, computing in {served['executionPrecision']}"
    )
    console.rule("[bold]times")
    for title, seconds in times.items():
        console.print(f"  {title}: {seconds:.0f} s")
    console.print(
        "\nGo on yourself:\n"
        f"  export PATH={':'.join(programs)}:$PATH\n"
        f"  export KUBECONFIG={cluster.kubeconfig}\n"
        f"  kubectl get emodel,optjob,edeploy,nprof --all-namespaces\n"
        f"  kubectl --namespace {NAMESPACE} describe edgemodel {NAME}\n"
        f"  kubectl --namespace {NAMESPACE} port-forward service/{NAME} 8080",
        soft_wrap=True,
    )
    if accuracy < baseline * KEPT_PERCENT / 100.0:
        message = f"the served model keeps less than {KEPT_PERCENT} % of the baseline's accuracy"
        raise DemoError(message)


def main() -> int:
    """Run the demo; exit 1 with one clear message when it fails."""
    try:
        run()
    except (DemoError, DevclusterError) as error:
        console.print(f"[bold red]demo:[/] {error}")
        console.print("Without containers, try the same optimization on this machine alone: `make optimize`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
