"""Local block consensus (paper section 4.6): whether most of the peers that we dialled stand on one tip.

Shown to people, and of two tips of equal weight the agreed one is preferred.  Never a rule of validity: a majority of
peers proves nothing, and it is the weight of validated blocks that counts.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from bnnchain.net.messages import Agreement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnchain.net.messages import Head

MAX_POLLED_PEERS = 8
MIN_POLLED_PEERS = 2
"""One peer alone is no majority of anything."""


def local_agreement(heads: Sequence[Head]) -> Agreement:
    """Return what the peers with these heads agree on: at least two thirds of the first ``MAX_POLLED_PEERS``."""
    tips = Counter(head.block_id for head in heads[:MAX_POLLED_PEERS])
    voters = sum(tips.values())
    if not voters:
        return Agreement(None, 0, 0)
    block_id, votes = tips.most_common(1)[0]
    is_agreed = voters >= MIN_POLLED_PEERS and 3 * votes >= 2 * voters
    return Agreement(block_id if is_agreed else None, votes, voters)
