"""Whether what is to be released works for somebody who has nothing else: `python tests/release/check.py dist`.

The wheel that fits this Python is installed into an environment made for it, without Rust and without the tree. Every
example runs, the commands do their job, and uninstalling leaves nothing. Standard library only.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

HTTP = """
import aioxide
from aioxide import http
from aioxide._native import HttpServer

async def main(url):
    async with http.AsyncClient() as client:
        return (await client.get(url)).status_code

with HttpServer() as server:
    assert http.get(server.url).status_code == 200
    assert aioxide.run(main(server.url)) == 200
print(aioxide.build_info())
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a program that knows neither this tree nor its Python's packages; gives what it printed."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    environment = {**kept, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [os.fspath(each) for each in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    if done.returncode != 0:
        raise SystemExit(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def files_under(folder: Path) -> set[str]:
    """All files but the caches, which running makes."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def check_contents(wheel: Path) -> None:
    """Only the package and its metadata; types, licences and the examples of `aioxide history` are in it."""
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names}
    assert len(tops) == 2 and "aioxide" in tops, f"{wheel.name} installs {sorted(tops)}"
    (info,) = tops - {"aioxide"}
    wanted = {"aioxide/py.typed", "aioxide/_native.pyi", "aioxide/history/chapters/01_sequential.py"}
    wanted |= {f"{info}/licenses/LICENSE-MIT", f"{info}/licenses/LICENSE-APACHE", f"{info}/entry_points.txt"}
    assert wanted <= names, f"{wheel.name} lacks {sorted(wanted - names)}"


def check_sdist(sdist: Path) -> None:
    """All that a build needs, and a lock file, so that it is the same everywhere."""
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    wanted = {"pyproject.toml", "Cargo.toml", "Cargo.lock", "crates/native/Cargo.toml", "python/aioxide/__init__.py"}
    assert wanted <= names, f"{sdist.name} lacks {sorted(wanted - names)}"


def check_wheel(dist: Path) -> None:
    """Install, use, remove."""
    with tempfile.TemporaryDirectory(prefix="release-") as folder:
        home = Path(folder)
        venv.create(home / "venv", with_pip=True, symlinks=True)
        python = home / "venv" / "bin" / "python"
        before = files_under(home / "venv")
        pip = (python, "-m", "pip", "--disable-pip-version-check", "--quiet")
        run(*pip, "install", "--no-index", "--find-links", dist, "aioxide", cwd=home)
        print(run(python, "-c", HTTP, cwd=home).strip())
        for example in sorted((ROOT / "examples").rglob("*.py")):
            run(python, example, cwd=home)
        aioxide = home / "venv" / "bin" / "aioxide"
        print(run(aioxide, "--version", cwd=home).strip())
        run(aioxide, "history", "--latency", "5ms", "--out", home / "history.html", cwd=home)
        assert "<svg" in (home / "history.html").read_text() or "<canvas" in (home / "history.html").read_text()
        run(*pip, "uninstall", "--yes", "aioxide", cwd=home)
        left = files_under(home / "venv") - before
        assert not left, f"uninstalling leaves {sorted(left)}"


def main() -> None:
    """The command line."""
    dist = Path(sys.argv[1]).resolve()
    wheels, sdists = sorted(dist.glob("aioxide-*.whl")), sorted(dist.glob("aioxide-*.tar.gz"))
    if not wheels or not sdists:
        raise SystemExit(f"{dist} has no wheel, or no sdist")
    for wheel in wheels:
        check_contents(wheel)
    for sdist in sdists:
        check_sdist(sdist)
    check_wheel(dist)
    print(f"release: {', '.join(path.name for path in [*wheels, *sdists])}: fine")


if __name__ == "__main__":
    main()
