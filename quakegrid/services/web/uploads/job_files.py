"""Which of the files that were sent is the job file, and whether it names only files that came with it. Pure.

The engine opens what a job file names, and tells its first line in an error. So a name that leads out of the
upload, an absolute path or an address is refused before the engine sees it.
"""

from __future__ import annotations

import configparser
import posixpath
import re
from collections.abc import Iterable

from quakegrid.errors import UsageError

# What a Macintosh adds to archives.
_FOREIGN = "__MACOSX"
# A text that people write, in which a slash is no path; and a folder that is replaced by one of ours.
_FREE = ("description", "export_dir")
_WORD = re.compile(r"[^\s,;'\"\[\](){}=]+")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_ABSOLUTE = re.compile(r"/+[^/]|~|\\|[A-Za-z]:[\\/]")


def job_file(names: Iterable[str], asked: str) -> str:
    """The job file among files, as the engine's server chooses it.

    Args:
        names: relative paths, in the order in which one is looked for.
        asked: what its name must end in.
    Raises:
        UsageError: there is none.
    """
    for name in names:
        if posixpath.basename(name).endswith(asked) and _FOREIGN not in name:
            return name
    raise UsageError(f"there are no {asked} files in the upload")


def check(name: str, text: str) -> None:
    """Refuse a job file that names something outside of the upload.

    A file that is no job file passes: the engine says what is wrong with it.

    Args:
        name: its relative path.
        text: its content.
    Raises:
        UsageError: a value leads out of the upload; it says which.
    """
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(text.removeprefix("\ufeff"))
    except configparser.Error:
        return
    for section in parser.sections():
        check_values(name, parser.items(section))


def check_values(name: str, values: Iterable[tuple[str, str]]) -> None:
    """Refuse values that name something outside of the upload.

    Args:
        name: relative path of the job file that they belong to.
        values: parameters and their values.
    Raises:
        UsageError: one leads out of the upload; it says which.
    """
    folder = posixpath.dirname(name)
    for key, value in values:
        if key in _FREE:
            continue
        for word in _WORD.findall(value):
            reason = _why_refused(folder, word)
            if reason:
                raise UsageError(f"{name}: {key} = {word[:80]!a} {reason}")


def _why_refused(folder: str, word: str) -> str:
    """Why a word of a value may not be there; empty if it may."""
    if _ADDRESS.match(word):
        return "is an address; files must come with the upload"
    if _ABSOLUTE.match(word):
        return "is an absolute path; files must come with the upload"
    if ".." in word.replace("\\", "/").split("/"):
        path = posixpath.normpath(posixpath.join(folder, word.replace("\\", "/")))
        if path.startswith(".."):
            return "leads out of the upload"
    return ""
