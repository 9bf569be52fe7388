"""Labelled images from a folder that has one sub-folder a class.

Classes are numbered by the names of their folders in ascending order.  Names that begin with a dot are passed over;
symbolic links (they may lead anywhere), deeper folders and files that are no pictures by their name are skipped and
named.  A file that is a picture by its name and cannot be read is refused by name, or skipped like the others.
Size: every picture is scaled into one frame as :func:`~bnnchain.exchange.images.read_grey` does; without a size given,
all must have the first one's.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from bnnchain.datasets.labelled import MAX_PIXEL_BYTES, LabelledImages
from bnnchain.exchange.images import picture_size, read_grey
from bnnchain_kernels.errors import Invalid, Unavailable
from bnnchain_kernels.model import MAX_CLASSES, MAX_SIDE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff")
MAX_FILES = 1 << 20
"""Entries of all folders together that are looked at."""


def load_folder(
    folder: Path,
    size: tuple[int, int] | None = None,
    *,
    invert: bool = False,
    skip_broken: bool = False,
    on_picture: Callable[[int, int], None] | None = None,
) -> LabelledImages:
    """Return the pictures of a folder; on_picture gets how many are read, of how many.

    size: (height, width) to scale to.  invert: dark on light becomes light on dark.
    Raises ``bad-source``, ``bad-image``, or :class:`Unavailable` without the extra ``images``.
    """
    class_names, files, skipped = _list(folder)
    if not files:
        raise Invalid("bad-source", reason="no pictures in sub-folders", folder=folder, skipped=skipped[:3])
    height, width = size or picture_size(files[0][0])
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise Invalid("bad-source", reason=f"pictures of {height}x{width}: sides are 1 to {MAX_SIDE}; state a size")
    if len(files) * height * width > MAX_PIXEL_BYTES:
        raise Invalid("bad-source", reason=f"{len(files)} pictures of {height}x{width}", limit_bytes=MAX_PIXEL_BYTES)
    pixels, labels, names = [], [], []
    for number, (path, label) in enumerate(files, 1):
        try:
            pixels.append(read_grey(path, height, width, invert=invert, resize=size is not None))
        except Invalid as error:
            if not skip_broken:
                raise
            skipped.append(f"{str(path.relative_to(folder))!a}: {error}")
            continue
        labels.append(label)
        names.append(ascii(str(path.relative_to(folder)))[1:-1])
        if on_picture is not None:
            on_picture(number, len(files))
    if not pixels:
        raise Invalid("bad-source", reason="no picture could be read", folder=folder, skipped=skipped[:3])
    return LabelledImages(np.stack(pixels), np.array(labels, np.uint8), class_names, tuple(names), tuple(skipped))


def _list(folder: Path) -> tuple[tuple[str, ...], list[tuple[Path, int]], list[str]]:
    """Return class names, (path, label) of every picture by name, and what was skipped."""
    entries = _scan(folder, MAX_FILES)
    skipped = [f"{entry.name!a}: {_kind(entry)}" for entry in entries if not _is_folder(entry)]
    class_folders = [entry for entry in entries if _is_folder(entry)]
    if len(class_folders) > MAX_CLASSES:
        raise Invalid("bad-source", reason=f"{len(class_folders)} sub-folders, {MAX_CLASSES} classes are the most")
    files: list[tuple[Path, int]] = []
    left = MAX_FILES - len(entries)
    for label, class_folder in enumerate(class_folders):
        members = _scan(folder / class_folder.name, left)
        left -= len(members)
        for entry in members:
            if entry.is_file(follow_symlinks=False) and entry.name.lower().endswith(SUFFIXES):
                files.append((folder / class_folder.name / entry.name, label))
            else:
                skipped.append(f"{class_folder.name + '/' + entry.name!a}: {_kind(entry)}")
    return tuple(entry.name for entry in class_folders), files, skipped


def _scan(folder: Path, limit: int) -> list[os.DirEntry[str]]:
    entries = []
    try:
        with os.scandir(folder) as found:
            for entry in found:
                if entry.name.startswith("."):
                    continue
                entries.append(entry)
                if len(entries) > limit:
                    raise Invalid("bad-source", reason=f"more than {MAX_FILES} files", folder=folder)
    except OSError as error:
        raise Unavailable(f"cannot read {folder}: {error.strerror}") from error
    return sorted(entries, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return "a symbolic link"
    return "a folder" if _is_folder(entry) else "not a picture"
