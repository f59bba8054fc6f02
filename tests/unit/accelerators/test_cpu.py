"""Reading /proc/cpuinfo of other machines."""

import subprocess
import sys
from pathlib import Path

import pytest

from skerry.accelerators import cpu

X86 = """processor\t: 0
model name\t: AMD EPYC 9B14
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni avx512_bf16 hypervisor

processor\t: 1
model name\t: AMD EPYC 9B14
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni avx512_bf16 hypervisor
"""
RASPBERRY = """processor\t: 0
Features\t: fp asimd evtstrm aes crc32 asimdhp asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd0b

Model\t\t: Raspberry Pi 5 Model B Rev 1.0
"""
NAMELESS = """processor\t: 0
Features\t: fp asimd
CPU implementer\t: 0x41
CPU part\t: 0xd0c
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (X86, cpu.CpuFacts("AMD EPYC 9B14", 2, ("avx2", "avx512_bf16", "avx512_vnni", "avx512f"))),
        (RASPBERRY, cpu.CpuFacts("Raspberry Pi 5 Model B Rev 1.0", 1, ("asimd", "asimddp", "asimdhp"))),
        (NAMELESS, cpu.CpuFacts("implementer 0x41 part 0xd0c", 1, ("asimd",))),
        ("", cpu.CpuFacts("", 0, ())),
    ],
)
def test_reading(tmp_path: Path, text: str, expected: cpu.CpuFacts) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(text, encoding="utf-8")
    assert cpu.read(tmp_path) == expected


def test_a_machine_without_the_file(tmp_path: Path) -> None:
    assert cpu.read(tmp_path) == cpu.CpuFacts("", 0, ())


def test_it_needs_the_standard_library_only() -> None:
    program = "import skerry.accelerators.cpu, sys; print('pydantic' in sys.modules, 'yaml' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, check=True
    )
    assert done.stdout.split() == [b"False", b"False"]
