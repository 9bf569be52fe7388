"""The block store, the mempool and the one door for blocks."""
