"""Who has what in a store that many machines reach: claims, of which the store gives each number to one owner.

A claim is numbered. To have something is to own its highest number, and the store lets one owner alone take a number: of those who ask
for it at once, one gets it. Whoever has it renews a heartbeat, and gives it back at the end. The next number may be taken when

- the last one was given back;
- its owner is dead, which a process of the same machine knows at once;
- its heartbeat has not changed for as long as the owner said (`AGMBENCH_STALE`), by the clock of the one who watches. Nobody takes
  one because of a time of another machine, and no time counts in which the watcher did not reach the store.

Whoever only looks (`left_behind`) finds by the same rules which of them would be taken over.

An owner that could not renew its heartbeat in time does not trust its claim any more: before it writes anything it takes the next number,
or finds that another has it, and stops.
"""

import json
import os
import platform
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol
from uuid import uuid4

from agmbench import interrupts
from agmbench.errors import AgmbenchError, Taken

VARIABLE = "AGMBENCH_STALE"
STALE = 60.0  # seconds without a heartbeat, after which its owner is taken for dead
BEATS = 4  # in that time
TRUSTED = 0.75  # of that time: what is left is for a write that is on its way
ENOUGH = 10.0  # seconds to wait for a heartbeat that is on its way
STAMP = "%Y-%m-%d %H:%M:%S UTC"  # of a heartbeat, by its owner's clock
PLACE = "AGMBENCH_PLACE"  # what a launcher calls the place of a job, such as its number in a queue


def stale() -> float:
    """The seconds after which a silent owner is taken for dead."""
    text = os.environ.get(VARIABLE) or str(STALE)
    with suppress(ValueError):
        if 1 <= (seconds := float(text)) < float("inf"):
            return seconds
    raise AgmbenchError(f"{VARIABLE}={text} should be a number of seconds, 1 or more")


def now() -> float:
    """Seconds of a clock that is never put back; it goes on while the machine sleeps, where the system has such a one."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


@dataclass(frozen=True)
class Owner:
    """A process that has a claim. Texts are empty where they are not known.

    machine: tells one start of a machine, and processes that see one another, from all others.   begun: when the process began, by
    which it is told from a later one of the same number.   token: tells its claims apart.   place: as a launcher calls it.
    """

    host: str
    pid: int
    machine: str
    begun: str
    token: str
    stale: float
    place: str = ""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}{f' ({self.place})' if self.place else ''}"

    @property
    def text(self) -> str:
        """As the store keeps it."""
        return json.dumps({name: value for name, value in asdict(self).items() if value != ""})

    @property
    def dead(self) -> bool:
        """Whether the process is known to be gone; of another machine's process nothing is known."""
        return bool(self.machine and self.begun) and self.machine == _machine() and _begun(self.pid) != self.begun


def me() -> Owner:
    """This process, with a token of its own each time."""
    pid = os.getpid()
    return Owner(platform.node(), pid, _machine(), _begun(pid), uuid4().hex[:12], stale(), os.environ.get(PLACE, ""))


def owner(text: str) -> Owner | None:
    """What `text` of an owner says, if it can be read."""
    with suppress(ValueError, TypeError):
        return Owner(**{"machine": "", "begun": "", **json.loads(text)})
    return None


@cache
def _machine() -> str:
    """The start of this machine and the space of process numbers, which a container has of its own; empty but on Linux."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return ""


def _begun(pid: int) -> str:
    """When a process of this machine began, in ticks since the machine did; empty if there is none, or only its exit status."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    return ""


class Held(NamedTuple):
    """The highest number of a claim as the store has it, 0 if it was never taken, and the last heartbeat."""

    number: int
    owner: Owner | None = None
    beat: str = ""
    free: bool = True

    @property
    def said(self) -> str:
        """Who has it, since which heartbeat."""
        beat = f"its last heartbeat is number {self.beat}" if self.beat else "it has given no heartbeat yet"
        return f"{self.owner or 'an unknown process'}; {beat}"

    @property
    def lasting(self) -> float:
        """After how many seconds of silence its owner is taken for dead, as the owner said."""
        return self.owner.stale if self.owner else stale()

    @property
    def pause(self) -> float:
        """Seconds between two looks at it."""
        return min(1.0, self.lasting / 10)

    @property
    def recent(self) -> bool:
        """Whether its last heartbeat is of this time, by the owner's clock and ours: enough not to watch it, but not to take it."""
        with suppress(ValueError):
            told = datetime.strptime(self.beat.partition(" at ")[2], STAMP).replace(tzinfo=UTC)
            return abs(time.time() - told.timestamp()) < self.lasting
        return False


class Place(Protocol):
    """Where the store keeps a claim."""

    def held(self) -> Held:
        """As it stands."""

    def take(self, number: int, owner: Owner) -> bool:
        """Ask for a number; whether it is this owner's now."""

    def beat(self, number: int, text: str) -> None:
        """Renew the heartbeat of a number."""

    def give_back(self, number: int) -> None:
        """The number's owner is done."""


class Watch:
    """Looks at a claim again and again, until its next number may be taken. An owner at the place `gone` is known to be dead."""

    def __init__(self, gone: str = "") -> None:
        self._gone = gone
        self._seen: Held | None = None
        self._looked = self._silent = 0.0
        self.heard = False  # it has changed since the first look

    def over(self, held: Held) -> bool:
        """Whether it is given back, or its owner is known to be dead, or was silent for as long as it said."""
        if held.free or (held.owner and (held.owner.dead or held.owner.place == self._gone != "")):
            return True
        return self.silent(held, held.pause) >= held.lasting

    def silent(self, held: Held, pause: float) -> float:
        """For how many seconds it has not changed; a gap between two looks counts as two `pause`s at most."""
        looked = now()
        self.heard = self.heard or held != (self._seen or held)
        self._silent = self._silent + min(looked - self._looked, 2 * pause + 1) if held == self._seen else 0.0
        self._seen, self._looked = held, looked
        return self._silent


def left_behind(places: Mapping[str, Place], watching: Callable[[float], None]) -> set[str]:
    """Of claims by name, those whose next number may be taken, as `Claim` finds it; nothing is taken.

    One of which nothing was heard lately is watched until it changes, or is over; `watching` is told once how long that may take.
    """
    watches, found, told = {name: Watch() for name in places}, set[str](), False
    while watches:
        held = {name: places[name].held() for name in watches}
        over = {name for name, watch in watches.items() if watch.over(held[name])}
        found |= over
        watches = {name: one for name, one in watches.items() if not (name in over or one.heard or held[name].recent)}
        if watches:
            if not told:
                watching(max(held[name].lasting for name in watches))
            told = True
            time.sleep(min(held[name].pause for name in watches))
    return found


class Claim:
    """A claim of this process, waited for when it is entered; `taken` is told once who has it, and may raise instead. An owner at the
    place `gone` is known to be dead."""

    def __init__(self, place: Place, taken: Callable[[Held], None], gone: str = "") -> None:
        self.place, self.owner, self._taken, self._watch = place, me(), taken, Watch(gone)
        self.number = 0
        self._trusted = 0.0  # until when
        self._beats = 0
        self._lost: Taken | None = None
        self._ended = threading.Event()
        self._one = threading.Lock()

    def __enter__(self) -> "Claim":
        told = False
        while True:
            held, begun = self.place.held(), now()
            if not self._watch.over(held):
                if not told:
                    self._taken(held)
                told = True
                time.sleep(held.pause)
                continue
            told = False
            with interrupts.held(then_check=False):  # what was taken is given back
                if self.place.take(held.number + 1, self.owner):
                    self.number, self._trusted = held.number + 1, begun + TRUSTED * self.owner.stale
                    break
        threading.Thread(target=self._beat_on, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._one.acquire(timeout=ENOUGH):  # no heartbeat comes after it; one that hangs is not waited for
            if self._lost is None and now() < self._trusted:
                with suppress(Exception):  # it becomes stale
                    self.place.give_back(self.number)
            self._one.release()

    def check(self) -> None:
        """Raise `Taken` if another has it now. To be called before anything is written."""
        if now() >= self._trusted:
            self._renew()
        if self._lost is not None:
            raise self._lost

    def _renew(self) -> None:
        """Renew the heartbeat; one that comes too late takes the next number, which another may have taken."""
        with self._one:
            if self._lost is not None or self._ended.is_set():
                return
            begun = now()
            if begun >= self._trusted and not self.place.take(self.number + 1, self.owner):
                held = self.place.held()
                self._lost = Taken(
                    f"{held.owner or 'an unknown process'} took it over, because this process gave no sign of life for "
                    f"{self.owner.stale:.0f} seconds; this process writes nothing more"
                )
                return
            self.number += begun >= self._trusted
            self._beats += 1
            self.place.beat(self.number, f"{self._beats} at {time.strftime(STAMP, time.gmtime())}")
            self._trusted = begun + TRUSTED * self.owner.stale

    def _beat_on(self) -> None:
        while not self._ended.wait(self.owner.stale / BEATS) and self._lost is None:
            with suppress(Exception):  # a store that does not answer is an error of whoever writes to it
                self._renew()
