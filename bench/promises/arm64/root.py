"""Emulated ARM Debian roots, and the project's wheel installed in them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.promises.wheel import REPOSITORY, run

BINFMT = Path("/proc/sys/fs/binfmt_misc")
# What the first 20 bytes of a program must be (ELF, 64 or 32 bits, its machine), and which bits of them count.
# The same as Debian's qemu-user-static registers.
ELF = {
    "arm64": (r"\x7fELF\x02\x01\x01" + r"\x00" * 9 + r"\x02\x00\xb7\x00", "qemu-aarch64"),
    "armhf": (r"\x7fELF\x01\x01\x01" + r"\x00" * 9 + r"\x02\x00\x28\x00", "qemu-arm"),
}
MASK = r"\xff" * 7 + r"\x00" + r"\xff" * 8 + r"\xfe" + r"\xff" * 3


class Skipped(Exception):
    """This machine cannot do it; the message says why, in one line."""


@dataclass(frozen=True)
class System:
    """What a board runs."""

    suite: str
    """Debian release."""
    arch: str
    """Debian's name of the architecture: arm64 or armhf."""
    cpus: tuple[str, ...]
    """qemu's names of the processors; the engines choose their kernels by what these can do."""
    formats: tuple[str, ...] = ("onnx", "tflite")
    """Files, and extras of the wheel, that can run there."""
    packages: tuple[str, ...] = ()
    """Debian packages beyond Python."""


SYSTEMS = {
    # Raspberry Pi 4 (no int8 dot product) and 5 (with it)
    "bookworm": System("bookworm", "arm64", ("cortex-a72", "cortex-a76")),
    "trixie": System("trixie", "arm64", ("cortex-a72", "cortex-a76")),
    # the registry has no NumPy for 32 bits
    "armv7": System("bookworm", "armhf", ("cortex-a7",), ("tflite",), ("python3-numpy",)),
}


@contextmanager
def emulator(arch: str, folder: Path | None) -> Iterator[str]:
    """While it is open, the kernel starts ARM programs through qemu, in chroots too. Gives qemu's version.

    folder: where qemu's programs are, if not on the path. Raises Skipped where the machine does not allow it.
    """
    if os.geteuid() != 0:
        raise Skipped("chroot and binfmt_misc need root; run it as root")
    if shutil.which("debootstrap") is None:
        raise Skipped("debootstrap is not installed; apt-get install debootstrap")
    magic, program = ELF[arch]
    qemu = _static(program, folder)
    if not (BINFMT / "register").exists():
        mounted = subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT], capture_output=True, text=True)
        if mounted.returncode:
            raise Skipped(f"binfmt_misc cannot be mounted: {mounted.stderr.strip()}")
    entry = BINFMT / f"edgekd-{arch}"
    try:
        if entry.exists():  # of a run that was killed
            entry.write_text("-1")
        # F: the kernel opens the emulator now, so that it need not be inside the root
        (BINFMT / "register").write_text(f":{entry.name}:M::{magic}:{MASK}:{qemu}:F")
    except OSError as error:
        raise Skipped(f"binfmt_misc takes no entry: {error.strerror}") from None
    try:
        yield subprocess.run([qemu, "--version"], capture_output=True, text=True).stdout.splitlines()[0]
    finally:
        entry.write_text("-1")


def _static(program: str, folder: Path | None) -> str:
    """qemu's statically linked program: a chroot has none of the libraries that another would need."""
    for name in (f"{program}-static", program):
        found = shutil.which(name, path=folder)
        if found and b"/ld-linux" not in Path(found).read_bytes()[:4096]:  # the loader that a dynamic program names
            return str(Path(found).resolve())
    raise Skipped(f"no static {program} found; apt-get install qemu-user-static, or name its folder with --qemu")


@dataclass(frozen=True)
class Root:
    """A Debian in a folder."""

    folder: Path
    system: System

    @classmethod
    def build(cls, folder: Path, system: System, mirror: str | None) -> Root:
        """The root in the folder, from the mirror where it is not there yet."""
        if not folder.exists():
            part = folder.with_name(f"{folder.name}.part")
            run("rm", "-rf", "--one-file-system", str(part))  # an interrupted one, in which /proc may be mounted
            part.parent.mkdir(parents=True, exist_ok=True)
            packages = ",".join(("python3-venv", *system.packages))
            run(
                "debootstrap", f"--arch={system.arch}", "--variant=minbase", f"--include={packages}",
                system.suite, str(part), *([mirror] if mirror else []),
            )  # fmt: skip
            part.rename(folder)
        for file in ("/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt"):  # pip inside needs the network
            if Path(file).exists():
                shutil.copy(file, folder / file[1:])
        return cls(folder, system)

    def path(self, inside: str) -> Path:
        """Where a path of the root is outside of it."""
        return self.folder / inside.lstrip("/")

    def run(self, *command: str, **environment: str) -> str:
        """Run a program in the root with a clean environment; its standard output. Raises RunFailed."""
        clean = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
        return run("chroot", str(self.folder), *command, env={**clean, **environment})

    def install(self, wheel: Path, extra: str) -> str:
        """The wheel with one extra in an environment of its own, as a user would; the environment's path inside."""
        venv = f"/opt/{extra}"
        debian = self.system.packages  # what pip shall see of them is the system's
        if not self.path(venv).exists():
            self.run("python3", "-m", "venv", *(["--system-site-packages"] if debian else []), venv)
        shutil.copy(wheel, self.path("/tmp"))
        shutil.copy(REPOSITORY / "constraints.txt", self.path("/tmp"))
        constraints = [] if debian else ["-c", "/tmp/constraints.txt"]
        # how this machine reaches the registry
        settings = {k: v for k, v in os.environ.items() if k.startswith("PIP_") or k.lower().endswith("_proxy")}
        pip = (f"{venv}/bin/python", "-m", "pip", "install", "-q", "--no-compile")
        self.run(*pip, *constraints, f"/tmp/{wheel.name}[{extra}]", **settings)
        # a newer tree has the same version: without this pip would keep the older one
        self.run(*pip, "--no-deps", "--force-reinstall", f"/tmp/{wheel.name}", **settings)
        return venv
