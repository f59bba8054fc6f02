"""Which variant a deployment runs."""

from collections.abc import Sequence

from skerry.api.edgemodel import Variant


def choose_variant(variants: Sequence[Variant], preferred: Sequence[str], present: frozenset[str]) -> Variant | None:
    """Return the variant to run: published, on an accelerator that a node has, the most preferred one first.

    Without preference the model's order counts. None when there is no such variant.
    """
    usable = [variant for variant in variants if variant.artifact and variant.accelerator in present]
    if not preferred:
        return usable[0] if usable else None
    ranked = [variant for name in preferred for variant in usable if variant.accelerator == name]
    return ranked[0] if ranked else None
