"""`skerry optimize`: what the Job in the cluster does, on this machine and without a cluster.

Only the options are here, so that `skerry --help` answers at once; `skerry.cli.optimizing` does the work.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from skerry.cli.artifacts import CaFile, CredentialsFile, Insecure, PasswordStdin, Patience, Username
from skerry.cli.errors import need

_NEEDED = ("httpx", "nncf", "numpy", "onnx", "onnxruntime", "openvino", "yaml")

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="An .onnx file, a folder with one model, or an oci://, https://, s3:// or hf:// URI.",
        show_default=False,
    ),
]
ModelDigest = Annotated[
    str | None,
    typer.Option("--sha256", metavar="SHA256", help="What `skerry digest` says of the model; others are refused."),
]
Format = Annotated[str, typer.Option("--format", help="Format of the model; Auto looks into the file.")]
Accelerator = Annotated[
    str, typer.Option("--accelerator", metavar="NAME", help="What to optimize for; see `skerry accelerators`.")
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="FILE",
        help="Npz to measure accuracy on: one array for each model input, under its name, first axis samples; and "
        "`labels`: class ids [N], or targets shaped like the first output.",
    ),
]
DataDigest = Annotated[
    str | None, typer.Option("--data-sha256", metavar="SHA256", help="What `skerry digest` says of the data.")
]
DataFormat = Annotated[str, typer.Option("--data-format", help="Format of --data: Auto, Npz or Text.")]
CalibrationFormat = Annotated[
    str, typer.Option("--calibration-format", help="Format of --calibration: Auto, Npz or Text.")
]
Calibration = Annotated[
    str | None,
    typer.Option(
        "--calibration",
        metavar="FILE",
        help="Npz to quantize with: arrays as in --data, without labels. Default: a part of --data.",
    ),
]
CalibrationDigest = Annotated[
    str | None,
    typer.Option("--calibration-sha256", metavar="SHA256", help="What `skerry digest` says of that data."),
]
CalibrationSamples = Annotated[
    int, typer.Option("--calibration-samples", min=1, help="How many samples of --calibration are used at the most.")
]
Metric = Annotated[
    str | None,
    typer.Option(
        "--metric", help="What accuracy means: Accuracy, F1, MeanAbsoluteError, CosineSimilarity or Agreement."
    ),
]
Gates = Annotated[
    list[str] | None,
    typer.Option(
        "--gate",
        metavar="METRIC:GOAL:VALUE",
        help="What a candidate must meet, as in LatencyP95:PercentMinImprovement:50; may be given several times. "
        "GOAL: Threshold, MinImprovement, MaxDegradation, PercentMinImprovement or PercentMaxDegradation. "
        "Default: 95 % of the accuracy, twice the speed, half the memory.",
        show_default=False,
    ),
]
NoGates = Annotated[bool, typer.Option("--no-gates", help="Let every candidate through.")]
Objective = Annotated[
    str, typer.Option("--objective", help="What decides among those that pass: a metric, or Balanced.")
]
Candidates = Annotated[
    list[str] | None,
    typer.Option(
        "--candidate",
        metavar="NAME[:OPTION=VALUE,…]",
        help="Try only this one, as in openvino-int8-ptq; may be given several times. A comma within a value is "
        "written \\,. Default: all that fit.",
        show_default=False,
    ),
]
Shapes = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME=1,3,224,224",
        help="Pin the shape of an input; may be given several times.",
        show_default=False,
    ),
]
Fallback = Annotated[
    str, typer.Option("--when-none-qualifies", help="Fail, or ServeBaseline: the unoptimized model is the result.")
]
Budget = Annotated[
    int | None,
    typer.Option("--budget-minutes", min=1, max=10_080, help="After how many minutes no further candidate is begun."),
]
Most = Annotated[
    int | None, typer.Option("--max-candidates", min=1, max=32, help="How many candidates are tried at the most.")
]
Push = Annotated[
    str | None,
    typer.Option("--push", metavar="oci://…", help="Push variant and report: oci://REGISTRY[:PORT]/REPOSITORY:TAG."),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="FOLDER", help="Where variant, report and log go. Default: NAME-optimized here."),
]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads that models run with. Default: all CPUs.")
]
Workers = Annotated[
    Path | None,
    typer.Option(
        "--workers",
        metavar="FOLDER",
        help="Folder with the sockets of workers: tools in images of their own; see the documentation of tools.",
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on with what an interrupted run measured into the same --out, on this machine."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON instead of tables.")]


@dataclass(frozen=True)
class Access:
    """How registries are reached, as the options say it."""

    insecure: bool
    username: str | None
    password_stdin: bool
    credentials_file: Path | None
    ca_file: Path | None
    patience: int


@dataclass(frozen=True)
class Wishes:
    """What the options say, as text."""

    model: str
    sha256: str | None
    model_format: str
    accelerator: str
    data: str | None
    data_sha256: str | None
    data_format: str
    calibration: str | None
    calibration_sha256: str | None
    calibration_format: str
    calibration_samples: int
    metric: str | None
    gates: tuple[str, ...]
    no_gates: bool
    objective: str
    candidates: tuple[str, ...]
    shapes: tuple[str, ...]
    when_none_qualifies: str
    budget_minutes: int | None
    max_candidates: int | None
    push: str | None
    out: Path | None
    threads: int | None
    workers: Path | None
    resume: bool
    as_json: bool


def optimize(  # noqa: PLR0913 - they are the command's options
    model: Model,
    *,
    sha256: ModelDigest = None,
    model_format: Format = "Auto",
    accelerator: Accelerator = "cpu",
    data: Data = None,
    data_sha256: DataDigest = None,
    data_format: DataFormat = "Auto",
    calibration: Calibration = None,
    calibration_sha256: CalibrationDigest = None,
    calibration_format: CalibrationFormat = "Auto",
    calibration_samples: CalibrationSamples = 300,
    metric: Metric = None,
    gate: Gates = None,
    no_gates: NoGates = False,
    objective: Objective = "LatencyP95",
    candidate: Candidates = None,
    shape: Shapes = None,
    when_none_qualifies: Fallback = "Fail",
    budget_minutes: Budget = None,
    max_candidates: Most = None,
    push: Push = None,
    out: Out = None,
    threads: Threads = None,
    workers: Workers = None,
    resume: Resume = False,
    as_json: Json = False,
    insecure: Insecure = False,
    username: Username = None,
    password_stdin: PasswordStdin = False,
    credentials_file: CredentialsFile = None,
    ca_file: CaFile = None,
    patience: Patience = 30,
) -> None:
    """Optimize a model on this machine: try candidates, measure each against the original, keep the best.

    s3:// takes AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION and AWS_ENDPOINT_URL from the
    environment, hf:// HF_TOKEN and HF_ENDPOINT.

    Exit codes: 0 there is a variant to serve; 1 no candidate passed the gates; 64 an option is wrong; 65 the model or
    the data is wrong; 66 a file is not there; 69 a server does not answer; 73 --out cannot be written; 78 credentials,
    certificates or packages are missing.
    """
    need("optimizing", _NEEDED, "its optimizer, as in pip install '.[cli,optimizer-openvino]' in its checkout")
    from skerry.cli import optimizing  # noqa: PLC0415 - lazy

    wishes = Wishes(
        model=model,
        sha256=sha256,
        model_format=model_format,
        accelerator=accelerator,
        data=data,
        data_sha256=data_sha256,
        data_format=data_format,
        calibration=calibration,
        calibration_sha256=calibration_sha256,
        calibration_format=calibration_format,
        calibration_samples=calibration_samples,
        metric=metric,
        gates=tuple(gate or ()),
        no_gates=no_gates,
        objective=objective,
        candidates=tuple(candidate or ()),
        shapes=tuple(shape or ()),
        when_none_qualifies=when_none_qualifies,
        budget_minutes=budget_minutes,
        max_candidates=max_candidates,
        push=push,
        out=out,
        threads=threads,
        workers=workers,
        resume=resume,
        as_json=as_json,
    )
    access = Access(
        insecure=insecure,
        username=username,
        password_stdin=password_stdin,
        credentials_file=credentials_file,
        ca_file=ca_file,
        patience=patience,
    )
    if code := optimizing.run(wishes, access):
        raise typer.Exit(code)
