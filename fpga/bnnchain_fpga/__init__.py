"""The overlay's host side: compiles models for it and drives it (on a board or simulated)."""
