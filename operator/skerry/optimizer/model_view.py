"""A folder with nothing but a language model's data, for tools that would also load what else lies beside it.

Conversion tools ask transformers to trust the model's own Python code, and fall back to pickles. The folder that they
get has neither: files that are data, and JSON without the entries that name code.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from skerry.optimizer.language_source import read_json

_CODE_ENTRIES: Final = ("auto_map", "custom_pipelines", "model_file", "trust_remote_code")


def view(files: Mapping[str, Path], folder: Path) -> Path:
    """Fill a folder with links to the weights, and with JSON files that name no code; return it.

    Raises:
        BadModelError: A JSON file is none.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, file in files.items():
        target = folder / name
        if file.suffix == ".json":
            document = {key: value for key, value in read_json(file).items() if key not in _CODE_ENTRIES}
            target.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
        else:
            target.symlink_to(file.resolve())
    return folder


def stamp(files: Mapping[str, Path]) -> str:
    """Return what stands for files in one work folder: their names, sizes and times."""
    facts = [(name, (found := file.stat()).st_size, found.st_mtime_ns) for name, file in sorted(files.items())]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
