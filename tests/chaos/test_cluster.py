"""Eight processes under kills, pauses, cut and hanging links end at one tip, whole, no larger and without a traceback.

CLUSTER_S=600 is the long form; a failure prints the seed (CHAOS_SEED) and everything that was done.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from typing import TYPE_CHECKING

import pytest
from chaos.cluster import NODES, Cluster, Member
from e2e.processes import bnnchain_json

if TYPE_CHECKING:
    from pathlib import Path

CLUSTER_S = float(os.environ.get("CLUSTER_S", "60"))
SEED = int(os.environ.get("CHAOS_SEED", "20261122"))
INTERVAL_S = 10.0 if CLUSTER_S > 120 else 5.0
SETTLE_S = 90.0
LEAST_BLOCKS = 1
"""A minute, on a machine that has other things to do."""
FLAT_KIB_PER_MINUTE = 2_048
FLAT_KIB = 24_576
"""Of growth over the second half: a chain that grows takes a little."""
LEAST_AGE_S = 120.0
"""A younger process still warms up."""


@pytest.mark.slow
@pytest.mark.timeout(CLUSTER_S + 600)
async def test_a_cluster_under_faults_ends_at_one_tip(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    cluster = Cluster(tmp_path, rng)
    try:
        await cluster.start()
        begin_s = time.monotonic()
        while (passed_s := time.monotonic() - begin_s) < CLUSTER_S:
            done = asyncio.create_task(cluster.disturb(rng.uniform(1, INTERVAL_S * 0.6)))
            await asyncio.sleep(INTERVAL_S * 0.9)
            await done
            cluster.sample()
            await asyncio.sleep(max(0.0, passed_s + INTERVAL_S - (time.monotonic() - begin_s)))
        growth = [_growth(member, begin_s + CLUSTER_S / 2) for member in cluster.members]
        await cluster.stop_mining()
        tip, height, took_s = await cluster.wait_for_one_tip(SETTLE_S)
        for member in cluster.members:
            assert await asyncio.to_thread(member.stop) == 0, f"node {member.number}"
            assert member.highest <= height, f"node {member.number} has lost blocks that it had accepted"
    except BaseException:
        print(f"seed {SEED}", *cluster.log, sep="\n")
        raise
    finally:
        await cluster.close()
    report = [
        f"seed {SEED}: {len(cluster.log)} faults in {CLUSTER_S:.0f} s, height {height}, one tip after {took_s:.1f} s",
        f"starts {[member.lives for member in cluster.members]}",
        f"growth over the second half, KiB and KiB a minute: {growth}",
    ]
    print(*report, sep="\n")
    for member in cluster.members:
        verified = await asyncio.to_thread(bnnchain_json, "verify", "--home", str(member.home), "--backend", "c")
        assert (verified["head"], verified["height"]) == (tip.hex(), height), f"node {member.number}"
        said = (tmp_path / f"node{member.number}.stderr").read_text()
        assert "Traceback" not in said, f"node {member.number}: {said[-2_000:]}"
    assert height >= LEAST_BLOCKS * CLUSTER_S / 60
    for number, grown in enumerate(growth):
        assert grown is None or grown[0] < FLAT_KIB or grown[1] < FLAT_KIB_PER_MINUTE, f"node {number}, {growth}"
    if CLUSTER_S > 2 * LEAST_AGE_S:
        assert sum(grown is not None for grown in growth) >= NODES // 4


def _growth(member: Member, from_s: float) -> tuple[int, int] | None:
    """Return what a process grew by since ``from_s``, KiB, and its slope, KiB a minute; None where it is too young."""
    points = [(at, kib) for at, kib in member.rss if at >= max(from_s, member.started_s + LEAST_AGE_S / 2)]
    if len(points) < 4 or points[-1][0] - member.started_s < LEAST_AGE_S:
        return None
    mean_at = sum(at for at, _ in points) / len(points)
    mean_kib = sum(kib for _, kib in points) / len(points)
    spread = sum((at - mean_at) ** 2 for at, _ in points)
    slope = sum((at - mean_at) * (kib - mean_kib) for at, kib in points) / spread
    return points[-1][1] - points[0][1], round(60 * slope)
