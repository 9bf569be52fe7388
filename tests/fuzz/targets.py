"""Every fuzz target by name."""

from __future__ import annotations

from fuzz import (
    consensus_targets,
    file_targets,
    judge_target,
    net_targets,
    rpc_target,
    state_targets,
    wire_targets,
)

_ROOMS = (wire_targets, consensus_targets, file_targets, net_targets, state_targets, judge_target, rpc_target)
TARGETS = {target.name: target for room in _ROOMS for target in room.TARGETS}
