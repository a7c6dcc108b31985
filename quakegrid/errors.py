"""The errors that QuakeGrid raises on purpose.

Each message says what happened, where, and what to do. `exit_code` is what a command line ends with.
`reason` is the error's name on the wire: programs in any language find it in the `google.rpc.ErrorInfo` of a
failed call, and it stays the same when a class is renamed.
"""

# The exit codes of all commands and services.
EXIT_CLEAN = 0
EXIT_FAILED = 1
EXIT_USAGE = 2  # or settings
EXIT_UNREACHABLE = 3  # or not running
EXIT_STOPPED = 4  # by Ctrl-C, an abort or force
EXIT_UNFINISHED = 5  # what was waited for had not ended in time
EXIT_AGAIN = 75  # of a driver, for its agent only: start another one for the same jobs


class QuakeGridError(Exception):
    """Anything that QuakeGrid refuses or fails to do; `str()` is one line for people."""

    exit_code = EXIT_FAILED
    reason = "FAILED"


class SettingsError(QuakeGridError):
    """A setting is missing or wrong; names file, section, key, value and what is allowed."""

    exit_code = EXIT_USAGE
    reason = "SETTINGS"


class UsageError(QuakeGridError):
    """The command or request makes no sense: a bad argument, a missing file."""

    exit_code = EXIT_USAGE
    reason = "USAGE"


class PeerUnreachableError(QuakeGridError):
    """A service does not answer at its address."""

    exit_code = EXIT_UNREACHABLE
    reason = "PEER_UNREACHABLE"


class PeerError(QuakeGridError):
    """A peer sent something that breaks the protocol; the peer is dropped."""

    reason = "PEER"


class NotFoundError(QuakeGridError):
    """A named job, output or action does not exist."""

    reason = "NOT_FOUND"


class StateError(QuakeGridError):
    """The thing exists but its state forbids the request, such as a move out of a final job state."""

    reason = "STATE"


class NotAllowedError(QuakeGridError):
    """Who asks may not do this; names who that is, whose the thing is, and who may."""

    reason = "NOT_ALLOWED"


class CredentialError(QuakeGridError):
    """A credential is none, has ended, or was revoked."""

    exit_code = EXIT_USAGE
    reason = "CREDENTIAL"


class TooManyTriesError(QuakeGridError):
    """Who asks has to wait: too much was tried, or too many try at once; says how long."""

    reason = "TOO_MANY_TRIES"


class IllegalMoveError(QuakeGridError):
    """A pure core was asked for a move that its table does not have: a bug of ours."""

    reason = "ILLEGAL_MOVE"


class EngineMissingError(QuakeGridError):
    """openquake.engine is not installed, or is a version that QuakeGrid does not know."""

    reason = "ENGINE_MISSING"


class TaskError(QuakeGridError):
    """A task of an executor ended in a way that leaves no exception of its own to raise."""

    reason = "TASK"


class PayloadError(TaskError):
    """A function, its arguments, its result or its exception cannot travel between client and worker."""

    reason = "PAYLOAD"


class TaskKilledError(TaskError):
    """A task ended its worker as often as it may; names each attempt with its node and reason."""

    reason = "TASK_KILLED"


# The class that a client raises for a reason; a service's own reason, such as "DISK_FULL", has none.
BY_REASON: dict[str, type[QuakeGridError]] = {
    kind.reason: kind
    for kind in (
        SettingsError,
        UsageError,
        PeerUnreachableError,
        PeerError,
        NotFoundError,
        StateError,
        NotAllowedError,
        CredentialError,
        TooManyTriesError,
        IllegalMoveError,
        EngineMissingError,
        TaskError,
        PayloadError,
        TaskKilledError,
    )
}
