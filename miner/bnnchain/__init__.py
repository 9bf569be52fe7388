"""bnnchain: a blockchain whose blocks are earned by better binary neural networks."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("bnnchain")
except PackageNotFoundError:  # a bare source tree on the path
    __version__ = "0.0.0"
