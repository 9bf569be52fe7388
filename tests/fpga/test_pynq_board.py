"""The PYNQ transport over a device that is only registers and memory: by the real pynq where it is installed, by a
stand-in with the same calls everywhere.  Neither is a board."""

# ruff: noqa: ANN001, ANN202  (fixtures and stand-ins)
from __future__ import annotations

import importlib.machinery
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
from fpga.emulated_board import EmulatedBoard
from fpga.test_evaluator import SMALL, prepare

from bnnchain_fpga.doctor import examine
from bnnchain_fpga.evaluator import Accelerator, OverlayEvaluator
from bnnchain_fpga.pynq_board import PynqBoard
from bnnchain_fpga.registers import Control, OverlayError, Register
from bnnchain_kernels.errors import Fault, Unavailable
from bnnchain_kernels.reference import ReferenceEvaluator

OVERLAY, DMA = 0x4000_0000, 0x4040_0000
RUNNING, HALTED, IDLE, DMA_ERROR = 1, 1, 2, 0x10


class Buffer(np.ndarray):
    """Contiguous memory with an address; remembers its cache maintenance."""

    physical_address = 0
    flushed = invalidated = freed = 0

    def flush(self) -> None:
        self.flushed += 1

    def invalidate(self) -> None:
        self.invalidated += 1

    def freebuffer(self) -> None:
        self.freed += 1


class Hardware:
    """The overlay's and the DMA's registers, as the bus sees them (Xilinx PG021 for the DMA)."""

    def __init__(self) -> None:
        self.board = EmulatedBoard()
        self.buffers: list[Buffer] = []
        self.control = {0x00: 0, 0x30: 0}
        self.state = {0x00: HALTED, 0x30: HALTED}
        self.address: dict[int, int] = {}
        self.length: dict[int, int] = {}
        self.is_stuck = False

    def allocate(self, words: int) -> Buffer:
        buffer = np.zeros(words, np.uint32).view(Buffer)
        buffer.physical_address = 0x1000_0000 + 0x100_0000 * len(self.buffers)
        self.buffers.append(buffer)
        return buffer

    def read(self, address: int) -> int:
        if address < DMA:
            return int(self.board.read_register(address - OVERLAY))
        offset = address - DMA
        channel, register = offset // 0x30 * 0x30, offset % 0x30
        return self.state[channel] if register == 4 else self.length.get(channel, 0) if register == 0x28 else 0

    def write(self, address: int, value: int) -> None:
        if address < DMA:
            self.board.write_register(address - OVERLAY, value)
            if address - OVERLAY == Register.CONTROL and not value & Control.RESET and not self.is_stuck:
                for channel in self.state:
                    self.state[channel] |= IDLE
            return
        offset = address - DMA
        channel, register = offset // 0x30 * 0x30, offset % 0x30
        if register == 0:
            self.state[channel] = 0 if value & RUNNING else HALTED
        elif register == 0x18:
            self.address[channel] = value
        elif register == 0x28:
            self.length[channel] = value
            self.state[channel] = 0
            buffer = next(b for b in self.buffers if b.physical_address == self.address[channel])
            view = np.asarray(buffer)[: value // 4]
            if channel:
                self.board.start_receive(view)
            else:
                self.board.start_send(view)


def make_stand_in(hardware: Hardware) -> types.ModuleType:
    """A module with the calls of pynq that the transport uses."""

    class MMIO:
        def __init__(self, address: int, length: int) -> None:
            self.address = address

        def read(self, offset: int) -> int:
            return hardware.read(self.address + offset)

        def write(self, offset: int, value: int) -> None:
            hardware.write(self.address + offset, value)

    class Channel:
        def __init__(self, offset: int) -> None:
            self.mmio, self.offset = MMIO(DMA + offset, 0x30), offset
            self.start()

        running = property(lambda self: not self.mmio.read(4) & HALTED)
        idle = property(lambda self: bool(self.mmio.read(4) & IDLE))
        error = property(lambda self: bool(self.mmio.read(4) & 0x70))

        def start(self) -> None:
            self.mmio.write(0, RUNNING)

        def stop(self) -> None:
            self.mmio.write(0, 0)

        def transfer(self, buffer: Buffer, start: int = 0, nbytes: int = 0) -> None:
            if not self.offset:
                buffer.flush()
            self.buffer = buffer
            self.mmio.write(0x18, buffer.physical_address + start)
            self.mmio.write(0x28, nbytes or buffer.nbytes)

        def wait(self) -> None:
            if self.offset:
                self.buffer.invalidate()

    module = types.ModuleType("pynq")
    module.MMIO = MMIO
    module.allocate = lambda shape, dtype: hardware.allocate(shape[0])
    module.Clocks = types.SimpleNamespace(fclk0_mhz=100.0)
    dma = types.SimpleNamespace(sendchannel=Channel(0), recvchannel=Channel(0x30))
    module.Overlay = lambda path: types.SimpleNamespace(
        ip_dict={"bnn_overlay_0": {"phys_addr": OVERLAY}}, axi_dma_0=dma
    )
    module.__spec__ = importlib.machinery.ModuleSpec("pynq", None)
    return module


def use_real_pynq(monkeypatch: pytest.MonkeyPatch, hardware: Hardware) -> None:
    """Real MMIO, allocate and DMA of pynq, on a device of ours; only the bitstream's parser is replaced."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pynq = pytest.importorskip("pynq")
        from pynq.lib.dma import DMA as RealDMA  # noqa: N811
        from pynq.pl_server.device import Device

    class SimulatedDevice(Device):
        def __init__(self) -> None:
            super().__init__("simulated")
            self.capabilities = {"REGISTER_RW": True}

        def has_capability(self, name: str) -> bool:
            return bool(self.capabilities.get(name))

        def read_registers(self, address: int, length: int) -> bytes:
            return b"".join(hardware.read(address + at).to_bytes(4, "little") for at in range(0, length, 4))

        def write_registers(self, address: int, data: bytes) -> None:
            for at in range(0, len(data), 4):
                hardware.write(address + at, int.from_bytes(bytes(data[at : at + 4]), "little"))

        def allocate(self, shape: tuple[int, ...], dtype: object, **_: object) -> Buffer:
            return hardware.allocate(shape[0])

    device = SimulatedDevice()
    monkeypatch.setattr(Device, "_active_device", device, raising=False)
    parameters = {
        "C_INCLUDE_SG": "0", "c_include_sg": "0", "c_include_mm2s": "1", "c_include_s2mm": "1",
        "c_sg_length_width": "26", "c_m_axi_mm2s_data_width": "32", "c_m_axi_s2mm_data_width": "32",
        "c_include_mm2s_dre": "0", "c_include_s2mm_dre": "0",
    }  # fmt: skip
    description = {"phys_addr": DMA, "addr_range": 0x10000, "device": device, "parameters": parameters,
                   "interrupts": {}, "gpio": {}}  # fmt: skip

    def overlay(path: str) -> types.SimpleNamespace:
        assert Path(path).is_file()
        return types.SimpleNamespace(ip_dict={"bnn_overlay_0": {"phys_addr": OVERLAY}}, axi_dma_0=RealDMA(description))

    monkeypatch.setattr(pynq, "Overlay", overlay)
    monkeypatch.setattr(pynq, "Clocks", types.SimpleNamespace(fclk0_mhz=100.0))


@pytest.fixture(params=["stand-in", "real pynq"])
def hardware(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Hardware:
    hardware = Hardware()
    if request.param == "stand-in":
        monkeypatch.setitem(sys.modules, "pynq", make_stand_in(hardware))
    else:
        use_real_pynq(monkeypatch, hardware)
    return hardware


@pytest.fixture
def bitstream(tmp_path: Path) -> Path:
    path = tmp_path / "bnn_overlay.bit"
    path.write_bytes(b"not a bitstream")
    return path


def test_evaluator_on_the_pynq_transport(hardware: Hardware, bitstream: Path) -> None:
    board = PynqBoard(bitstream)
    accelerator = Accelerator(board)
    model, samples = prepare(SMALL, 600)
    evaluator = OverlayEvaluator(accelerator, samples)
    reference = ReferenceEvaluator(samples)
    assert evaluator.backend == "fpga"
    assert np.array_equal(evaluator.logits(model, 7, 599), reference.logits(model, 7, 599))
    assert np.array_equal(evaluator.correct(model, 0, 600), reference.correct(model, 0, 600))
    sends = [buffer for buffer in hardware.buffers if buffer.flushed]
    receives = [buffer for buffer in hardware.buffers if buffer.invalidated]
    assert sends
    assert receives
    accelerator.close()
    assert all(buffer.freed == 1 for buffer in hardware.buffers)


def test_faults_of_the_board_are_faults(hardware: Hardware, bitstream: Path) -> None:
    accelerator = Accelerator(PynqBoard(bitstream))
    model, samples = prepare(SMALL, 20)
    evaluator = OverlayEvaluator(accelerator, samples)
    hardware.board.fail_with = OverlayError.CRC
    with pytest.raises(Fault, match="crc"):
        evaluator.logits(model, 0, 20)
    hardware.board.fail_with = None
    hardware.is_stuck = True
    hardware.state[0] |= DMA_ERROR

    def fail_next(value: int, write=hardware.write) -> None:
        hardware.state[0] |= DMA_ERROR

    original = hardware.board._load
    hardware.board._load = lambda packet: (original(packet), fail_next(0))[0]
    with pytest.raises(Fault, match="DMA"):
        evaluator.logits(model, 0, 20)
    hardware.board._load, hardware.is_stuck = original, False
    assert np.array_equal(evaluator.logits(model, 0, 20), ReferenceEvaluator(samples).logits(model, 0, 20))


def test_buffers_of_others_are_refused(hardware: Hardware, bitstream: Path) -> None:
    with pytest.raises(Fault, match="not allocated"):
        PynqBoard(bitstream).start_send(np.zeros(4, np.uint32))


def test_doctor_on_a_healthy_device(hardware: Hardware, bitstream: Path, monkeypatch, tmp_path: Path) -> None:
    release = tmp_path / "pynq_release"
    release.write_text("PYNQ-Z2 v3.1\nRelease 2024\n")
    monkeypatch.setattr("bnnchain_fpga.doctor.PYNQ_RELEASE", release)
    monkeypatch.setattr("bnnchain_fpga.doctor._find_package", lambda backend: _fake_finding())
    report = examine("fpga", lambda backend: PynqBoard(bitstream))
    assert report.is_healthy, report
    assert not report.is_simulated
    assert [finding.name for finding in report.findings] == [
        "image", "pynq", "device", "overlay", "clock", "golden vectors", "speed",
    ]  # fmt: skip
    assert report.measured_images_per_s > 0
    assert report.modelled_images_per_s > 1e6


def _fake_finding():
    from bnnchain_fpga.doctor import Finding

    return Finding("pynq", "3.1", is_good=True)


def test_doctor_names_what_is_wrong(hardware: Hardware, bitstream: Path) -> None:
    hardware.board.registers[Register.ID] = 0
    report = examine("fpga", lambda backend: PynqBoard(bitstream))
    assert not report.is_healthy
    assert report.findings[0].name == "image"
    assert not report.findings[0].is_good
    assert report.findings[-1].name == "overlay"
    assert "no BNN overlay" in report.findings[-1].value
    assert report.measured_images_per_s == 0


def test_no_bitstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynq", make_stand_in(Hardware()))
    with pytest.raises(Unavailable, match="no bitstream"):
        PynqBoard(tmp_path / "missing.bit")
    report = examine("fpga", lambda backend: PynqBoard(tmp_path / "missing.bit"))
    assert report.findings[-1].name == "device"
    assert not report.is_healthy


@pytest.mark.parametrize(("message", "kind"), [("No Devices Found", Unavailable), ("Could not program", Fault)])
def test_no_device_and_failed_programming(
    bitstream: Path, monkeypatch: pytest.MonkeyPatch, message: str, kind: type[Exception]
) -> None:
    module = make_stand_in(Hardware())

    def fail(path: str) -> None:
        raise RuntimeError(message)

    module.Overlay = fail
    monkeypatch.setitem(sys.modules, "pynq", module)
    with pytest.raises(kind, match=message):
        PynqBoard(bitstream)


def test_another_overlay_is_refused(bitstream: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = make_stand_in(Hardware())
    module.Overlay = lambda path: types.SimpleNamespace(ip_dict={"base": {}})
    monkeypatch.setitem(sys.modules, "pynq", module)
    with pytest.raises(Fault, match="not this overlay"):
        PynqBoard(bitstream)
