"""Data sets: manifests, readers, the embedded digits."""
