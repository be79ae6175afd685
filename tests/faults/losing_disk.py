"""A disk that loses what was not flushed of one folder: for processes whose power goes."""

import os
import threading

from tests.faults.test_enrolment_kills import Disk


class LosingDisk(Disk):
    """Counts the calls that concern ``folder``; at number ``cut_at`` the process is killed.

    With ``power`` what was not flushed there is lost first; so it is with a new name for a file.
    """

    def __init__(self, cut_at, folder, *, power=True):
        super().__init__(cut_at, power=power)
        self.folder = str(folder)
        self.real_link = os.link
        self.thread = threading.get_ident()

    def seize(self):
        super().seize()
        os.link = self.link

    def concerns(self, path):
        """Whether a call is one of those that are counted; other threads' never are."""
        ours = threading.get_ident() == self.thread
        return ours and os.fspath(path).startswith(self.folder)

    def open(self, path, flags, *more, **others):
        if self.concerns(path):
            return super().open(path, flags, *more, **others)
        return self.real[0](path, flags, *more, **others)

    def fsync(self, handle):
        if self.concerns(os.readlink(f"/proc/self/fd/{handle}")):  # noqa: PTH115
            super().fsync(handle)
        else:
            self.real[1](handle)

    def replace(self, source, target):
        if self.concerns(target):
            super().replace(source, target)
        else:
            self.real[2](source, target)

    def unlink(self, path, **more):
        if self.concerns(path):
            super().unlink(path, **more)
        else:
            self.real[3](path, **more)

    def link(self, source, target, **more):
        if self.concerns(target):
            self.step()
            self.remember(target)
        self.real_link(source, target, **more)
