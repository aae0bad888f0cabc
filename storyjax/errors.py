"""The one error class a user meets: its text says what was expected, what came and what to do."""


class StoryjaxError(ValueError):
    """A mistake the user can mend. The command prints it as one line, without a traceback."""
