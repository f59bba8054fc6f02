"""Write the built-in catalogue, and the form of its entries, into a chart: `python -m skerry.accelerators.generate`."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

from skerry.accelerators.catalogue import AcceleratorEntry, catalogue, dump

CATALOGUE_FILE: Final = "files/catalogue.json"
SCHEMA_FILE: Final = "values.schema.json"
_KEPT: Final = frozenset(
    {"type", "enum", "pattern", "minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum", "description"}
)


def _plain(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return a schema of Pydantic's without references, and with what Helm's reader of schemas knows."""
    if "$ref" in schema:
        return _plain(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    choices = [choice for choice in schema.get("anyOf", []) if choice.get("type") != "null"]
    if choices:
        return _plain(choices[0], definitions)
    found = {key: value for key, value in schema.items() if key in _KEPT}
    if "properties" in schema:
        found["properties"] = {name: _plain(inner, definitions) for name, inner in schema["properties"].items()}
        found["additionalProperties"] = False
        if required := schema.get("required"):
            found["required"] = required
    elif isinstance(schema.get("additionalProperties"), dict):
        found["additionalProperties"] = _plain(schema["additionalProperties"], definitions)
    elif "patternProperties" in schema:
        inner = schema["patternProperties"]
        found["patternProperties"] = {pattern: _plain(each, definitions) for pattern, each in inner.items()}
        found["additionalProperties"] = False
    if "propertyNames" in schema:
        found["propertyNames"] = _plain(schema["propertyNames"], definitions)
    if "items" in schema:
        found["items"] = _plain(schema["items"], definitions)
    return found


def entry_schema() -> dict[str, Any]:
    """Return the JSON schema of an entry."""
    whole = AcceleratorEntry.model_json_schema(by_alias=True)
    found = _plain(whole, whole.get("$defs", {}))
    found["description"] = "One accelerator, in the form of the built-in ones."
    return found


def rendered(chart: Path) -> dict[str, str]:
    """Return the texts of the files below the chart."""
    values = json.loads((chart / SCHEMA_FILE).read_text(encoding="utf-8"))
    values["properties"]["accelerators"]["properties"]["extra"]["items"] = entry_schema()
    return {CATALOGUE_FILE: dump(catalogue()), SCHEMA_FILE: json.dumps(values, indent=2, ensure_ascii=False) + "\n"}


def main() -> int:
    """Write or compare; exit 1 when `--check` finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("chart", type=Path)
    parser.add_argument("--check", action="store_true", help="only compare")
    arguments = parser.parse_args()
    for name, text in rendered(arguments.chart).items():
        path = arguments.chart / name
        if arguments.check and (not path.is_file() or path.read_text(encoding="utf-8") != text):
            sys.stderr.write(f"{path}: not up to date; run `make generate`\n")
            return 1
        if not arguments.check:
            path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
