"""The one exception that a user is meant to read."""


class UserError(Exception):
    """Bad input or a bad environment. The message is one line: what is wrong, where, and the remedy.

    Commands print it without a traceback and exit with code 2 (`svgan.cli.run`).
    """


def one_line(text: object, most: int = 200) -> str:
    """Somebody else's message, or an error's, on one line of at most so many characters."""
    return " ".join(str(text).split())[:most]


class NonFiniteLoss(RuntimeError):
    """A loss became NaN or infinite; raised on all ranks (`svgan.training.optimize.descend` says when)."""
