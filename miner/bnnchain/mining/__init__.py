"""Founding, evolving and sealing candidates."""
