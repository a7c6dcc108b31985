"""Exit codes of commands, and the errors of the Python and gRPC interfaces."""

from __future__ import annotations

import inspect

from quakegrid import errors

_HEAD = """\
# Errors and exit codes

*Generated from the code by `make reference`.*

## Exit codes

Commands and services end with one of these codes. `quakegrid run`, `attach` and `jobs wait` have [a table of
their own](../how-to/leave-and-come-back.md#exit-codes).

| code | name in `quakegrid.errors` | means |
|---|---|---|
"""
_CODES = {
    "EXIT_CLEAN": "all is well",
    "EXIT_FAILED": "it failed, or a job did",
    "EXIT_USAGE": "the command line, a job file or a setting is wrong",
    "EXIT_UNREACHABLE": "a service is not running, or cannot be reached",
    "EXIT_STOPPED": "stopped by Ctrl-C, an abort or force",
    "EXIT_UNFINISHED": "what was waited for had not ended in time",
    "EXIT_AGAIN": "of a driver, for its agent only: start another one for the same jobs",
}
_ERRORS = """
## Errors

Python programs get these classes from `quakegrid.errors`; each is a `QuakeGridError`. Programs in other
languages find the reason in the `google.rpc.ErrorInfo` of a failed call. A reason stays the same when a class
is renamed.

| reason | class | exit code | means |
|---|---|---|---|
"""


def markdown() -> str:
    """The page."""
    codes = {name: value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    rows = [f"| {value} | `{name}` | {_CODES[name]} |\n" for name, value in codes.items()]
    kinds = sorted(errors.BY_REASON.items())
    told = [
        f"| `{reason}` | `{kind.__name__}` | {kind.exit_code} | {_says(kind)} |\n" for reason, kind in kinds
    ]
    return _HEAD + "".join(rows) + _ERRORS + "".join(told)


def _says(kind: type[Exception]) -> str:
    """The first sentence of its docstring."""
    return " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())
