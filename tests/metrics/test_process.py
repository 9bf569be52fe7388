"""A real node process: what it exports, what its dashboard asks for, and what it answers when all is not well."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest
from e2e.processes import NodeProcess, bnnchain
from metrics.scraping import parse
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

METRIC_NAME = re.compile(r"\b(?:bnnchain|process)_[a-z0-9_]+")
ADDRESS = re.compile(r"metrics on http://(\S+)/metrics")
UNITS = (
    # Prometheus' base units, then what this node counts: https://prometheus.io/docs/practices/naming/
    *("seconds", "bytes", "ratio", "info", "fds"),
    *("blocks", "tickets", "candidates", "images", "generations", "families", "datasets", "transactions", "peers"),
    "bans",
)
FLAGS = {"bnnchain_ready", "bnnchain_syncing"}
"""0 or 1: like Prometheus' own `up` they have no unit, and their help says what 1 is."""
BUCKETS = ("_bucket", "_sum", "_count", "_created", "_total")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NodeProcess, str]]:
    """A miner with a few blocks, and where its metrics are."""
    home = tmp_path_factory.mktemp("watched") / "node"
    mining = ("mine", "--blocks", "4", "--seed", "1", "--hold", "0", "--metrics", "127.0.0.1:0", "--log-level", "debug")
    with NodeProcess(*mining, home=home) as process:
        process.wait_ready()
        [address] = [match.group(1) for match in map(ADDRESS.match, process.printed) if match]
        process.wait_height(4)
        yield process, f"http://{address}"


def ask(url: str, timeout_s: float = 20) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as reply:  # noqa: S310  (a node of this test's)
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_node_has_worked_and_says_so(node: tuple[NodeProcess, str]) -> None:
    _, url = node
    assert ask(f"{url}/healthz") == (200, "ok\n")
    assert ask(f"{url}/readyz") == (200, "ready\n")
    found = parse(ask(f"{url}/metrics")[1].encode())
    assert found["bnnchain_chain_height_blocks"] == 4
    assert found["bnnchain_tickets_total"] >= 4
    assert found["bnnchain_candidates_total"] > 0
    validated = {name: value for name, value in found.items() if name.startswith("bnnchain_validated_images_total{")}
    assert sum(validated.values()) > 4 * 1_297, "two founders and two children on the whole digits pool, and tickets"
    verdicts = [value for name, value in found.items() if name.startswith("bnnchain_block_validation_seconds_count")]
    assert sum(verdicts) == 4


def test_every_metric_has_help_and_a_unit(node: tuple[NodeProcess, str]) -> None:
    for family in text_string_to_metric_families(ask(f"{node[1]}/metrics")[1]):
        if family.name.endswith("_created") or family.name.startswith("process_"):
            continue  # the client library's own
        assert len(family.documentation) > 10, family.name
        assert re.fullmatch(r"bnnchain_[a-z][a-z_]*[a-z]", family.name), family.name
        assert not any("_" * 2 in sample.name for sample in family.samples)
        is_counter = family.type == "counter"
        assert all(sample.name.endswith("_total") for sample in family.samples if is_counter), family.name
        if family.name in FLAGS:
            assert family.documentation.startswith("1 ")
        else:
            assert family.name.endswith(UNITS), f"{family.name} has no unit"


def dashboard() -> dict[str, Any]:
    return json.loads(bnnchain("metrics", "dashboard").stdout)  # type: ignore[no-any-return]


def expressions() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]


def test_every_metric_of_the_dashboard_exists(node: tuple[NodeProcess, str]) -> None:
    text = ask(f"{node[1]}/metrics")[1]
    exported = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    # A counter by label has no sample before its first event; its family is there.
    exported |= {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    asked = {name for expression in expressions() for name in METRIC_NAME.findall(expression)}
    assert len(asked) > 20
    assert not asked - exported


def test_the_dashboard_shows_all_that_a_node_exports(node: tuple[NodeProcess, str]) -> None:
    asked = {name for expression in expressions() for name in METRIC_NAME.findall(expression)}
    shown = {name.removesuffix(suffix) for name in asked for suffix in ("", *BUCKETS) if name.endswith(suffix)}
    families = text_string_to_metric_families(ask(f"{node[1]}/metrics")[1])
    ours = {family.name for family in families if family.name.startswith("bnnchain_")}
    missing = {name for name in ours if not name.endswith("_created") and name not in shown | asked}
    assert missing - {"bnnchain_families"} == set()


def test_the_dashboard_is_one_that_can_be_imported() -> None:
    board = dashboard()
    assert board == json.loads(resources.files("bnnchain.metrics").joinpath("dashboard.json").read_text())
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    variables = {variable["name"] for variable in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(panels)))
    assert used - {"__rate_interval"} == variables
    cells = [
        (column, line)
        for panel in panels
        for column in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for line in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells), "panels overlap"
    assert max(column for column, _ in cells) == 23


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is not installed")
def test_prometheus_own_linter_agrees(node: tuple[NodeProcess, str], tmp_path: Path) -> None:
    text = ask(f"{node[1]}/metrics")[1]
    lint = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    said = [line for line in lint.stderr.splitlines() if "_created" not in line]
    assert said == []
    rules = [
        {
            "record": f"dashboard:panel:{number}",
            "expr": each.replace("$__rate_interval", "5m").replace("$instance", ".*"),
        }
        for number, each in enumerate(expressions())
    ]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = subprocess.run(
        ["promtool", "check", "rules", str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_lines_for_prometheus_name_the_addresses() -> None:
    said = bnnchain("metrics", "scrape-config", "127.0.0.1:9556", "[::1]:9556").stdout
    assert 'targets: ["127.0.0.1:9556", "[::1]:9556"]' in said
    bad = bnnchain("metrics", "scrape-config", "nowhere", check=False)
    assert (bad.returncode, bad.stderr[:18]) == (1, "error: bad-address")


def test_a_log_that_no_terminal_reads_is_json_to_the_last_line(node: tuple[NodeProcess, str]) -> None:
    process, _ = node
    lines = process.stderr_file.read_text().splitlines()
    assert len(lines) > 2
    for line in lines:
        fields = json.loads(line)
        assert {"time", "level", "logger", "message"} <= set(fields)


def test_health_stops_when_the_loop_does(node: tuple[NodeProcess, str]) -> None:
    process, url = node
    os.kill(process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(OSError, match="timed out"):
            ask(f"{url}/healthz", timeout_s=1)
    finally:
        os.kill(process.pid, signal.SIGCONT)
    assert ask(f"{url}/healthz") == (200, "ok\n")


def test_a_node_without_images_is_alive_and_not_ready(node: tuple[NodeProcess, str], tmp_path: Path) -> None:
    process, _ = node
    spec = process.stderr_file.with_name("node") / "chain.json"
    home = tmp_path / "poor"
    bnnchain("init", "--home", str(home), "--spec", str(spec))
    with NodeProcess("node", "--metrics", "127.0.0.1:0", home=home) as poor:
        poor.wait_ready()
        [url] = [f"http://{match.group(1)}" for match in map(ADDRESS.match, poor.printed) if match]
        assert ask(f"{url}/healthz")[0] == 200
        code, reason = ask(f"{url}/readyz")
        assert code == 503
        assert "data set is not here yet" in reason
        assert parse(ask(f"{url}/metrics")[1].encode())["bnnchain_ready"] == 0
        assert poor.stop() == 0


def test_a_port_in_use_ends_the_node_with_one_line(node: tuple[NodeProcess, str], tmp_path: Path) -> None:
    _, url = node
    home = tmp_path / "second"
    bnnchain("init", "--home", str(home))
    started = time.monotonic()
    second = bnnchain(
        "node", "--home", str(home), "--listen", "127.0.0.1:0", "--metrics", url.removeprefix("http://"), check=False
    )
    assert second.returncode == 1
    assert "error: cannot serve metrics on 127.0.0.1" in second.stderr.splitlines()[-1]
    assert time.monotonic() - started < 60


def test_a_node_without_metrics_loads_no_client_library() -> None:
    program = "import sys, bnnchain.cli.run, bnnchain.cli.top; print('prometheus_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"
