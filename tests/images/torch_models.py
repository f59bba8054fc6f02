"""Makes models as users of torch have them; runs in the image with torch: an encoder, exports, and hostile exports."""

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
import transformers

SIDE, CLASSES, VOCABULARY = 8, 10, 100
HARM = "touch harmed"
FORMULA = "__import__('os').system('touch harmed')"


class Small(torch.nn.Module):  # type: ignore[misc]
    """A convolution and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = torch.nn.Conv2d(1, 8, 3, padding=1)
        self.readout = torch.nn.Linear(8 * SIDE * SIDE, CLASSES)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return scores `[N, 10]` for images `[N, 1, 8, 8]`."""
        return self.readout(torch.relu(self.features(image)).flatten(1))


class Harm:
    """What a hostile pickle holds."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (HARM,)


def tampered(name: str, member: str, change: Callable[[bytes], bytes]) -> None:
    """Write the export with one of its members changed."""
    with zipfile.ZipFile("small.pt2") as source, zipfile.ZipFile(name, "w") as target:
        for each in source.namelist():
            content = source.read(each)
            target.writestr(each, change(content) if each == member else content)


def pickled(_: bytes) -> bytes:
    """Return tensors whose pickle runs a command."""
    stream = io.BytesIO()
    torch.save({"features.weight": Harm()}, stream)
    return stream.getvalue()


def formula(content: bytes) -> bytes:
    """Return the program with a formula that runs a command."""
    text = content.decode()
    symbol = "Symbol('s0', positive=True, integer=True)"
    assert symbol in text
    return text.replace(symbol, FORMULA).encode()


def encoders() -> None:
    """Write two encoders, one of which has a mask for segments."""
    torch.manual_seed(0)
    small = {"vocab_size": VOCABULARY, "max_position_embeddings": 64, "num_labels": 3}
    layers = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    bert = transformers.BertConfig(**small, **layers)
    transformers.BertForSequenceClassification(bert).save_pretrained("bert")
    roberta = transformers.RobertaConfig(**small, **layers, type_vocab_size=1)
    transformers.RobertaModel(roberta).save_pretrained("roberta")


def exports() -> None:
    """Write an export, and hostile ones made of it."""
    example, batch = torch.rand(2, 1, SIDE, SIDE), torch.export.Dim("batch")
    program = torch.export.export(Small().eval(), (example,), dynamic_shapes={"image": {0: batch}})
    torch.export.save(program, "small.pt2")
    relu, command = b"torch.ops.aten.relu.default", b"torch.os.system"
    tampered("pickle.pt2", "serialized_state_dict.pt", pickled)
    tampered("call.pt2", "serialized_exported_program.json", lambda content: content.replace(relu, command))
    tampered("formula.pt2", "serialized_exported_program.json", formula)


def harmed_by_torch() -> dict[str, bool]:
    """Return which hostile exports do harm when torch loads them without Skerry's checks."""
    found = {}
    for name in ("pickle", "formula"):
        Path("harmed").unlink(missing_ok=True)
        try:
            torch.export.load(f"{name}.pt2")
        except Exception as error:  # noqa: BLE001 - whether the harm was done is asked, not whether it loads
            print(f"{name}: {type(error).__name__}")  # noqa: T201 - for whoever looks into a failure
        found[name] = Path("harmed").exists()
    Path("harmed").unlink(missing_ok=True)
    return found


if __name__ == "__main__":
    encoders()
    exports()
    Path("harmed.json").write_text(json.dumps(harmed_by_torch()), encoding="utf-8")
