"""Kernel objects share no symbol: code for AVX-512 must not reach an older machine through the linker."""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import nnfast as nf

ROOT = Path(__file__).parents[1]
FAMILIES = re.findall(r"^  X\((\w+),", (ROOT / "cpp/kernels/families.def").read_text(), re.M)
C_LIBRARY = {"memcpy", "memset", "memmove", "__stack_chk_fail"}


def kernel_objects() -> list[Path]:
    """Of the build that was installed, the newest of each name."""
    root = Path(os.environ.get("NNFAST_BUILD_DIR", ROOT / "build"))
    found = sorted(
        root.glob("**/CMakeFiles/kernels_*.dir/cpp/**/*.o"), key=lambda path: path.stat().st_mtime
    )
    assert found, f"no kernel objects under {root}: install from this tree (pip install .) first"
    return list({path.parts[-4:]: path for path in found}.values())


def leaks(objects: Path) -> list[str]:
    """Symbols that others could bind to, or that bind to others, besides the C library's copies."""
    lines = subprocess.check_output(["nm", "-C", objects], text=True).splitlines()
    symbols = [re.match(r"\s*(?:[0-9a-f]+ )?(\w) (.*)", line).groups() for line in lines]
    return [
        f"{kind} {name}"
        for kind, name in symbols
        if kind not in "trdb"
        and not (kind == "U" and name in C_LIBRARY | {"_GLOBAL_OFFSET_TABLE_"})
    ]


def isa_of(path: Path) -> str:
    return re.search(r"kernels_(\w+)\.dir", str(path))[1]


def test_every_family_is_built_for_every_instruction_set() -> None:
    objects = kernel_objects()
    isas = {isa_of(path) for path in objects}
    names = {(isa_of(path), path.name.split(".")[0]) for path in objects}
    assert names == {(isa, family) for isa in isas for family in FAMILIES}


def test_objects_export_their_table_alone() -> None:
    for path in kernel_objects():
        family = path.name.split(".")[0]
        assert leaks(path) == [f"D nnfast::{isa_of(path)}::{family}"], path


@pytest.mark.parametrize(
    "source",
    [
        "inline int shared(int x) { return x + 1; } int use(int x) { return shared(x); }",
        "#include <vector>\nstatic std::vector<int> v; int use() { v.push_back(1); return 0; }",
        "#include <cmath>\ndouble use(double x) { return std::tgamma(x); }",
    ],
)
def test_a_leak_is_found(tmp_path: Path, source: str) -> None:
    compiler = shutil.which("g++") or shutil.which("c++")
    (tmp_path / "leak.cpp").write_text(source)
    target = tmp_path / "leak.o"
    subprocess.run(
        [compiler, "-O0", "-fPIC", "-c", tmp_path / "leak.cpp", "-o", target], check=True
    )
    assert len(leaks(target)) > 1


def wide(objects: Path) -> list[str]:
    """Instructions of AVX and what came after it: three operands, wider registers, masks."""
    lines = subprocess.check_output(["objdump", "-d", "--no-show-raw-insn", objects], text=True)
    return re.findall(r"^.*(?:\tv[a-z0-9]+ .*%|%[yz]mm|%k[0-7]\b).*$", lines, re.MULTILINE)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="one instruction set has no wider one")
def test_the_baseline_runs_on_the_oldest_processor(tmp_path: Path) -> None:
    baseline = [path for path in kernel_objects() if isa_of(path) == "x86_64_v2"]
    others = baseline[0].parents[3].glob("runtime.dir/**/*.o")
    for path in [*baseline, *others]:
        assert not wide(path), path
    (tmp_path / "wide.cpp").write_text(
        "void f(float* x) { for (int i = 0; i < 8; ++i) x[i] += 1; }"
    )
    for flags, found in ((["-msse4.2"], False), (["-mavx2"], True)):
        command = ["g++", "-O3", *flags, "-c", tmp_path / "wide.cpp", "-o", tmp_path / "wide.o"]
        subprocess.run(command, check=True)
        assert bool(wide(tmp_path / "wide.o")) == found


def test_the_module_is_hardened() -> None:
    def said(*command: str) -> str:
        return subprocess.check_output([*command, nf._core.__file__], text=True)

    headers = {
        line.split()[0]: line for line in said("readelf", "-lW").splitlines() if line.split()
    }
    assert " RW " in headers["GNU_STACK"]  # not executable
    assert "GNU_RELRO" in headers
    assert "BIND_NOW" in said("readelf", "-dW")
    symbols = said("nm", "-D")
    assert "__stack_chk_fail" in symbols
    assert "__memcpy_chk" in symbols  # FORTIFY


def test_the_module_exports_its_initialisation_alone() -> None:
    """Not the templates of the standard library and its pool of waiting threads, which others may have too."""
    defined = subprocess.check_output(["nm", "-D", "--defined-only", nf._core.__file__], text=True)
    assert [line.split()[-1] for line in defined.splitlines()] == ["PyInit__core"]
