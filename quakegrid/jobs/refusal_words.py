"""What the engine says when it refuses or fails, in words for people. Pure.

Takes the class of an exception and its text, and leaves out what only programmers understand.
"""

from __future__ import annotations

import difflib
import re

_QUOTES = "'\""
# A text of so many words explains itself without its class.
SENTENCE_WORDS = 4
_CHOICE = re.compile(
    r"Got '(?P<got>[^']*)', expected (?P<allowed>[^:]+): could not convert to Choice\(.*\): (?P<name>\w+)="
)
_VALUE = re.compile(r"(?P<why>.*): could not convert to [^:]+: (?P<name>\w+)=(?P<value>.*)", re.DOTALL)
_NO_NUMBER = re.compile(r"could not convert string to (float|int)|invalid literal for int")
# Mistakes of a program, whose texts mean nothing to people.
_SLIPS = frozenset(
    {
        "AssertionError",
        "AttributeError",
        "IndexError",
        "KeyError",
        "TypeError",
        "UnboundLocalError",
        "ZeroDivisionError",
    }
)
_OF_NO_JOB_FILE = {
    "MissingSectionHeaderError": "it is no job file: before its first line there is no [section]",
    "UnicodeDecodeError": "it is no text file",
}


def of_engine(kind: str, text: str) -> str:
    """Why the engine ended a calculation, or did not begin it.

    Args:
        kind: name of the exception's class.
        text: of the exception, on one line.
    """
    if not text:
        return kind
    if found := _CHOICE.match(text):
        return _not_allowed(found["name"], found["got"], found["allowed"].split("|"))
    if found := _VALUE.fullmatch(text):
        return f"{found['name']} = {found['value']} is not allowed{_why(found['why'].strip())}"
    if kind in _SLIPS and _is_slip(kind, text):
        return (
            f"the engine met an error that it does not explain ({text}); `quakegrid check JOB.ini` may say "
            "which parameter or input is missing or wrong, and the log where it was"
        )
    return text if len(text.split()) >= SENTENCE_WORDS else f"{kind}: {text}"


def of_job_file(kind: str, text: str) -> str:
    """Why the engine cannot read a job file.

    Args:
        kind: name of the exception's class.
        text: of the exception, on one line.
    """
    if kind == "KeyError" and " " not in text:
        return f"it does not say {text.strip(_QUOTES)}"
    return _OF_NO_JOB_FILE.get(kind) or of_engine(kind, text)


def _is_slip(kind: str, text: str) -> bool:
    """Whether a text is Python's own; the engine also uses these classes for sentences."""
    if kind in {"KeyError", "AssertionError"}:
        return len(text.split()) < SENTENCE_WORDS
    return True


def _not_allowed(name: str, got: str, allowed: list[str]) -> str:
    near = difflib.get_close_matches(got, allowed, 1)
    meant = f" Is {near[0]} meant?" if near else ""
    return f"{name} = {got} is not allowed.{meant} There are {', '.join(sorted(allowed))}"


def _why(text: str) -> str:
    """Why a value is not allowed, as far as it says so to people."""
    if _NO_NUMBER.match(text):
        return ": it is no number"
    if "not supported between" in text or "object is not" in text:
        return ": it has another form than the engine expects"
    if text.startswith(_QUOTES[0]) and text.endswith(_QUOTES[0]) and text.count(_QUOTES[0]) == 2:
        return f": the engine does not know {text}"
    return f": {text}"
