"""The founder that trains with Larq, in a process of its own; the extra ``train`` installs what it needs."""
