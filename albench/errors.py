"""The one exception that a user is meant to see."""


class AlbenchError(Exception):
    """Something a user can mend, said in one line: what was wrong, where, what to do.

    The command line prints the message alone; anything else that is raised is a defect of albench or of a plug-in.
    Line breaks and control characters, which names from data may hold, are shown escaped.
    """

    def __str__(self) -> str:
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in super().__str__())


def did_you_mean(wrong: str, allowed: list[str]) -> str:
    """' Did you mean 'core-set'?' or an empty string.

    >>> did_you_mean("entopy", ["random", "entropy"])
    " Did you mean 'entropy'?"
    """
    import difflib

    close = difflib.get_close_matches(wrong, allowed, n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
