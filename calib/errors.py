"""The exceptions that we own. Jobs turn them into exit codes."""


class CalibError(Exception):
    """Something failed while running (exit code 1)."""


class InputError(CalibError):
    """Bad configuration, input or usage (exit code 2).

    The message is one sentence that names the file and the key, what was found, what was
    expected and what to do.
    """

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows: the sentence is all that the user needs."""
        return [f"{type(self).__name__}: {self}"]


class Unreachable(CalibError):
    """A server does not answer: a passing trouble, to be tried again (exit code 1)."""


class Interrupted(CalibError):
    """The user or the system asked us to stop (exit code 130)."""
