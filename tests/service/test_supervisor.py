"""What a real node tells the socket that systemd gives it, and that a loop which hangs tells nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from typing import TYPE_CHECKING

import pytest
from e2e.processes import NodeProcess, bnnchain

from bnnchain.service.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WATCHDOG_S = 1.5
PATIENCE_S = 60


class Manager:
    """The service manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def close(self) -> None:
        self._socket.close()

    def told(self, within_s: float) -> str | None:
        """Return the next message, or None where none comes."""
        self._socket.settimeout(within_s)
        try:
            return self._socket.recv(4096).decode()
        except TimeoutError:
            return None

    def wait_for(self, beginning: str) -> str:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            told = self.told(deadline - time.monotonic())
            if told is not None and told.startswith(beginning):
                return told
        raise AssertionError(f"the node never said {beginning}")

    def drain(self) -> list[str]:
        """Return what waits already."""
        messages = []
        while (told := self.told(0.01)) is not None:
            messages.append(told)
        return messages


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    name = f"@bnnchain-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    manager = Manager(name)
    yield manager
    manager.close()


def test_a_node_tells_ready_height_life_and_stop(
    manager: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    bnnchain("init", "--home", str(home))
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    monkeypatch.setenv("WATCHDOG_USEC", str(int(WATCHDOG_S * 1e6)))
    with NodeProcess("mine", "--blocks", "2", "--seed", "1", home=home) as node:
        ready = manager.wait_for("READY=1")
        address = node.wait_ready()
        assert f"STATUS=mining, chain regtest, home {home}, serving on {address}" in ready
        manager.wait_for("STATUS=height 2, mining")
        for _ in range(3):
            manager.wait_for("WATCHDOG=1")
        os.kill(node.pid, signal.SIGSTOP)
        time.sleep(0.1)
        manager.drain()
        assert manager.told(2 * WATCHDOG_S) is None
        os.kill(node.pid, signal.SIGCONT)
        manager.wait_for("WATCHDOG=1")
        assert node.stop() == 0
        manager.wait_for("STOPPING=1")


async def test_a_loop_that_hangs_tells_nothing(manager: Manager) -> None:
    supervisor = Supervisor(manager.address, watchdog_s=0.3)
    async with supervisor.watching(asyncio.Event()):
        await asyncio.sleep(0.35)
        assert manager.drain().count("WATCHDOG=1") >= 3
        time.sleep(0.6)  # noqa: ASYNC251  (this is what is tried)
        assert manager.drain() == []
        await asyncio.sleep(0.05)
        assert manager.drain() == ["WATCHDOG=1"]
    await asyncio.sleep(0.3)
    assert manager.drain() == []


def test_no_child_inherits_the_managers_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "@nobody")
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert Supervisor.from_environment().watchdog_s == 3
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(os.environ)


@pytest.mark.parametrize(("limit", "owner"), [("3000000", "1"), ("0", ""), ("", ""), ("soon", ""), ("-3", "")], ids=str)
def test_a_watchdog_for_nobody_or_another_process_is_none(
    limit: str, owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "@nobody")
    monkeypatch.setenv("WATCHDOG_USEC", limit)
    monkeypatch.setenv("WATCHDOG_PID", owner)
    assert Supervisor.from_environment().watchdog_s is None


def test_without_a_manager_and_with_a_dead_one_nothing_is_said(tmp_path: Path) -> None:
    Supervisor().ready("serving")
    Supervisor(str(tmp_path / "gone")).ready("serving")


def test_a_status_stays_one_line_of_bounded_length(manager: Manager) -> None:
    Supervisor(manager.address).status("height 1\nREADY=1 " + "x" * 5000)
    told = manager.told(1)
    assert told is not None
    assert told.startswith("STATUS=height 1 READY=1 xxx")
    assert "\n" not in told
    assert len(told) < 300
