"""A second, slow implementation of PROTOCOL.md in plain integers, bytes, lists and dicts: nothing of the node is used.

    state = judging.genesis(spec_bytes)
    state = judging.judge(state, block_bytes, now, pools)      # raises Refused where a rule is broken

It says whether a block is accepted and what is true after it, not with which code one is refused.
"""
