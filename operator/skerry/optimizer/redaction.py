"""Reports and variants are read by more people than may read the source: what is secret in a URI stays out of them."""

from urllib.parse import urlsplit, urlunsplit

from skerry.api.optimizationjob import OptimizationJobSpec

HIDDEN = "hidden"


def public_uri(uri: str) -> str:
    """Return a URI without login, and without the query of an https:// one, where signatures stand."""
    if not uri.startswith(("https://", "http://")):
        return uri
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=HIDDEN if parts.query else ""))


def public_spec(spec: OptimizationJobSpec) -> OptimizationJobSpec:
    """Return a spec whose URIs may be shown."""
    shown = {
        name: data.model_copy(update={"uri": public_uri(data.uri)})
        for name, data in (("model", spec.model), ("calibration", spec.calibration), ("evaluation", spec.evaluation))
        if data is not None
    }
    return spec.model_copy(update=shown)
