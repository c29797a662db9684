"""One process's way to the brokers, and the kinds of silence that are possible on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Link:
    """name: of the process and its incarnation, as it stands in the trace."""

    name: str
    is_cut: bool = False
    """Nothing gets through to the partitions' leaders, and no answer back."""
    is_group_cut: bool = False
    """The group coordinator does not hear of the process, nor it of the coordinator."""
    is_frozen: bool = False
    """SIGSTOP: what the kernel had to send it still sends."""
    is_dead: bool = False
    _mended: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])

    @property
    def is_silent(self) -> bool:
        return self.is_cut or self.is_frozen or self.is_dead

    def when_mended(self, call: Callable[[], None]) -> None:
        """Call back once, when one of the silences is over."""
        self._mended.append(call)

    def mended(self) -> None:
        waiting, self._mended = self._mended, []
        for call in waiting:
            call()
