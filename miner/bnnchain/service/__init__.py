"""A node under systemd: what the node tells it, the unit, and what installs and removes both."""
