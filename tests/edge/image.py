"""Executes a Dockerfile without an engine: each step in a Debian root of its own, and what comes out as a process.

Stands in for BuildKit where no engine runs.  Takes the instructions that miner/deploy/Dockerfile uses and refuses
others.  A root and network namespaces stand in for the container: no layers, no cgroups, no seccomp filter.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

BASE = "debian:bookworm-slim"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
STEP_TIMEOUT_S = 420
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(slots=True)
class Image:
    """A root directory and how its process starts."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    directory: str = "/"
    user: str = "root"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    def inside(self, *command: str, environment: dict[str, str] | None = None) -> list[str]:
        """Return the command that runs ``command`` in the image, as its user, with its variables."""
        variables = [f"{name}={value}" for name, value in {**self.environment, **(environment or {})}.items()]
        start = f"cd {shlex.quote(self.directory)} && exec {shlex.join(command)}"
        users = [] if self.user == "root" else [f"--userspec={self.user}:{self.user}"]
        return ["env", "-i", *variables, "chroot", *users, str(self.root), "sh", "-c", start]


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions and their arguments."""
    lines = [line for line in dockerfile.read_text().splitlines() if line and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def build(dockerfile: Path, context: Path, base: Path, directory: Path) -> Image:
    """Execute the Dockerfile's steps in roots below ``directory``, each stage from a copy of ``base``."""
    stages: dict[str, Image] = {}
    image = Image(directory)
    for word, rest in instructions(dockerfile):
        if word == "FROM":
            name = rest.split(" AS ")[1] if " AS " in rest else "final"
            assert rest.split()[0] == BASE, f"no stand-in for {rest}"
            image = stages[name] = Image(directory / name)
            subprocess.run(["cp", "--archive", "--reflink=auto", str(base), str(image.root)], check=True)
            shutil.copy("/etc/resolv.conf", image.root / "etc/resolv.conf")
        elif word == "RUN":
            run_step(image, rest)
        elif word == "COPY":
            copy(image, stages, context, rest)
        elif word == "ENV":
            image.environment.update(pair.split("=", 1) for pair in shlex.split(rest))
        elif word == "WORKDIR":
            image.directory = rest
            (image.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "USER":
            image.user = rest
        elif word in {"ENTRYPOINT", "CMD"}:
            setattr(image, "command" if word == "CMD" else "entrypoint", json.loads(rest))
        elif word == "HEALTHCHECK":
            image.health = json.loads(rest.split(" CMD ", 1)[1])
        else:
            assert word in {"VOLUME", "EXPOSE"}, f"{word} is not executed here"
    return image


def run_step(image: Image, command: str) -> None:
    """Run a RUN step with /proc, the network, and the certificates that this machine trusts its registries by."""
    trusted = image.root / "etc/build-certificates.crt"
    environment = {}
    if CERTIFICATES.exists():
        shutil.copy(CERTIFICATES, trusted)
        environment = {"PIP_CERT": "/etc/build-certificates.crt", "SSL_CERT_FILE": "/etc/build-certificates.crt"}
    step = image.inside("sh", "-c", command, environment=environment)
    script = f"mount -t proc proc {shlex.quote(str(image.root / 'proc'))} && exec {shlex.join(step)}"
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=STEP_TIMEOUT_S,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    trusted.unlink(missing_ok=True)
    assert done.returncode == 0, f"RUN {command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def copy(image: Image, stages: dict[str, Image], context: Path, rest: str) -> None:
    """Do a COPY of files or directories, from the context or another stage."""
    words = shlex.split(rest)
    source_root = context
    if words[0].startswith("--from="):
        source_root = stages[words.pop(0).removeprefix("--from=")].root
    *sources, target = words
    place = image.root / str(PurePosixPath(image.directory) / target).lstrip("/")
    for source in sources:
        path = source_root / source.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        from_ = f"{path}/." if path.is_dir() else str(path)
        subprocess.run(["cp", "--archive", from_, str(place)], check=True)
