"""The exceptions of this package. UserError is the one that a user reads."""


class UserError(Exception):
    """Bad input or a bad environment. The message is one line: what is wrong, where, and the remedy.

    Commands print it without a traceback and exit with code 2 (`svgan.cli.run`).
    """


def one_line(text: object, most: int = 200) -> str:
    """A message or an error on one line of at most `most` characters."""
    return " ".join(str(text).split())[:most]


class NonFiniteLoss(RuntimeError):
    """A loss became NaN or infinite; raised on all ranks (see `svgan.training.optimize.descend`)."""
