"""The rules: pure functions of integers and bytes; no I/O, no clock."""
