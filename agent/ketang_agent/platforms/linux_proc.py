"""What /proc tells of programs and sound; no content of either is read."""

from pathlib import Path

_DELETED = " (deleted)"


class AlsaPlayback:
    """Sound that is being played, by the state of the sound cards' playback streams.

    Only whether one runs is read. Sound servers close idle streams after a few seconds.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def held_awake(self) -> bool:
        """Tell whether a playback stream runs; False where there is no sound card."""
        streams = (self._root / "proc/asound").glob("card*/pcm*p/sub*/status")
        return any("state: RUNNING" in _text(one) for one in streams)


def executable_of(pid: int, root: Path = Path("/")) -> str:
    """Return the base name of a process's executable, lower case; "" once it is gone.

    Another user's link cannot be read, so the kernel's own short name (15 characters) stands in.
    """
    process = root / "proc" / str(pid)
    try:
        name = (process / "exe").readlink().name
    except OSError:
        name = _text(process / "comm").strip()
    return name.removesuffix(_DELETED).lower()


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
