"""Makes a release in this checkout: `make release VERSION=1.2.0`.

Arranges what CHANGELOG.md has under "Unreleased" by Added, Changed, Fixed and Removed below the version's
heading, writes the version into the package, builds the sdist and the wheel into `dist/`, with check sums,
and then commits and tags. With `TAG=no` it only commits, and prints how to tag when all tests have passed.
Nothing is pushed or published. Who builds the same tag again gets the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
CHANGELOG = ROOT / "CHANGELOG.md"
PACKAGE = ROOT / "quakegrid" / "__init__.py"
UNRELEASED = "## Unreleased\n"
KINDS = ("Added", "Changed", "Fixed", "Removed")
VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_HEADING = re.compile(r"^### (\w+)(?: and \w+)?(?:: (.+))?$", re.MULTILINE)
_LINE = re.compile(r'^__version__ = "(.+)"$', re.MULTILINE)


class ReleaseError(Exception):
    """Why there is no release; the words are for the person who asked for it."""


def arranged(entries: str) -> str:
    """Entries of a changelog by kind, and within a kind by subject, in the order that they had.

    Args:
        entries: sections "### KIND" or "### KIND: subject"; before them a text about the release.
    Raises:
        ReleaseError: a section is of no kind that there is, or there is none.
    """
    parts = _HEADING.split(entries)
    if len(parts) == 1:
        raise ReleaseError("CHANGELOG.md has no sections under Unreleased")
    found: dict[str, dict[str, list[str]]] = {kind: {} for kind in KINDS}
    for kind, subject, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        if kind not in found:
            raise ReleaseError(f"CHANGELOG.md: a section is called {kind!r}; there are {', '.join(KINDS)}")
        found[kind].setdefault(subject or "", []).append(text.strip())
    written = [parts[0].strip()] + [_section(kind, found[kind]) for kind in KINDS if found[kind]]
    return "\n\n".join(part for part in written if part) + "\n"


def _section(kind: str, subjects: dict[str, list[str]]) -> str:
    """A kind with its subjects; what has no subject comes first."""
    lines = [f"### {kind}"]
    for subject, texts in sorted(subjects.items(), key=lambda each: each[0] != ""):
        lines += [f"#### {subject[0].upper()}{subject[1:]}"] if subject else []
        # Texts that end in a list and begin with one are one list.
        lines += ["\n".join(texts) if all(text.startswith("- ") for text in texts) else "\n\n".join(texts)]
    return "\n\n".join(lines)


def released(changelog: str, version: str, day: str) -> str:
    """The changelog in which what was unreleased is a version."""
    before, mark, rest = changelog.partition(UNRELEASED)
    if not mark:
        raise ReleaseError("CHANGELOG.md has no section Unreleased")
    entries, next_heading, older = rest.partition("\n## ")
    return f"{before}{UNRELEASED}\n## {version} - {day}\n\n{arranged(entries)}{next_heading}{older}"


def with_version(source: str, version: str) -> str:
    """The package's `__init__.py` with this version, which is higher than its own."""
    if not VERSION.fullmatch(version):
        raise ReleaseError(f"{version!r} is no version; write three numbers, such as 1.2.0")
    (earlier,) = _LINE.findall(source)
    if numbers(version) <= numbers(earlier):
        raise ReleaseError(f"{version} is not higher than {earlier}, which this checkout has")
    return _LINE.sub(f'__version__ = "{version}"', source)


def numbers(version: str) -> tuple[int, ...]:
    """A version as numbers that can be compared."""
    return tuple(int(part) for part in version.split("."))


def build(folder: Path, epoch_s: int, sources: Path = ROOT) -> list[Path]:
    """The sdist, and the wheel that is built from it; the same bytes for the same sources and time.

    Args:
        folder: gets the files.
        epoch_s: the time that files in the archives have.
        sources: a checkout, or an unpacked sdist.
    """
    uv = ROOT / ".venv" / "tools" / "bin" / "uv"
    # The builder is the one of the lock, so that it cannot change between two builds.
    options = ["--quiet", "--no-build-isolation", "--python", sys.executable, "--out-dir", str(folder)]
    environ = os.environ | {"SOURCE_DATE_EPOCH": str(epoch_s)}
    subprocess.run([uv, "build", *options, str(sources)], env=environ, check=True)
    return sorted(path for path in folder.iterdir() if path.name.endswith((".whl", ".tar.gz")))


def check_sums(paths: list[Path]) -> str:
    """Lines as `sha256sum --check` reads them."""
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths)


def _git(*args: str, epoch_s: int | None = None) -> str:
    environ = os.environ | ({} if epoch_s is None else {"GIT_COMMITTER_DATE": f"{epoch_s} +0000"})
    done = subprocess.run(["git", *args], cwd=ROOT, env=environ, check=False, capture_output=True, text=True)
    if done.returncode:
        raise ReleaseError(f"git {args[0]} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout.strip()


def release(version: str, *, is_tagged: bool = True) -> list[Path]:
    """Make the release; returns its files. If there is none, the checkout is as it was, and not tagged."""
    # The sdist would have files that git does not know, too.
    if _git("status", "--porcelain"):
        raise ReleaseError("the checkout has changes or files that git does not know; commit or remove them")
    if _git("tag", "--list", f"v{version}"):
        raise ReleaseError(f"there is a tag v{version} already")
    now_time = datetime.now(UTC)
    before = {path: path.read_text(encoding="utf-8") for path in (PACKAGE, CHANGELOG)}
    source = with_version(before[PACKAGE], version)
    text = released(before[CHANGELOG], version, now_time.date().isoformat())
    try:
        PACKAGE.write_text(source, encoding="utf-8")
        CHANGELOG.write_text(text, encoding="utf-8")
        # The archives have the time of the commit, so that they can be built again from the tag.
        epoch_s = int(now_time.timestamp())
        paths = _built(epoch_s)
        changed = ("--", str(PACKAGE), str(CHANGELOG))
        _git("commit", "--quiet", "--message", f"Release {version}", *changed, epoch_s=epoch_s)
    except BaseException:
        for path, content in before.items():
            path.write_text(content, encoding="utf-8")
        raise
    if is_tagged:
        _git("tag", "--annotate", f"v{version}", "--message", f"QuakeGrid {version}")
    return paths


def _built(epoch_s: int) -> list[Path]:
    """The files of `dist/`, without those of earlier releases."""
    DIST.mkdir(exist_ok=True)
    for left in DIST.iterdir():
        left.unlink()
    try:
        paths = build(DIST, epoch_s)
    except (OSError, subprocess.CalledProcessError) as exc:
        raise ReleaseError(f"the build failed: {exc}") from None
    (DIST / "SHA256SUMS").write_text(check_sums(paths), encoding="utf-8")
    return paths


def main(argv: list[str]) -> int:
    """Release, or say why not."""
    parser = argparse.ArgumentParser(prog="python -m deploy.release", description=__doc__)
    parser.add_argument("version", help="three numbers, higher than the version that the checkout has")
    parser.add_argument("--no-tag", action="store_true", help="only commit, and print how to tag")
    asked = parser.parse_args(argv)
    try:
        paths = release(asked.version, is_tagged=not asked.no_tag)
    except ReleaseError as exc:
        print(f"release: {exc}", file=sys.stderr)
        return 2
    print("\n".join(str(path.relative_to(ROOT)) for path in paths))
    if not asked.no_tag:
        print("committed and tagged here; nothing is pushed or published")
        return 0
    print("committed here, not tagged; nothing is pushed or published. When all tests have passed:")
    commit = _git("rev-parse", "HEAD")
    print(f"git tag --annotate v{asked.version} --message 'QuakeGrid {asked.version}' {commit}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
