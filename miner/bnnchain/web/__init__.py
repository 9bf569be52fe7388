"""The explorer page: what this node's chain and models are, for a browser; it reads, and changes nothing."""
