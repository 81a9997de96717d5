"""Claims: which process works on what, in a store that several machines use.

A claim has numbers. Whoever owns its highest number has the claim. The store gives each number to only one owner: if several processes ask
for it at once, one gets it. The owner renews a heartbeat, and gives the number back at the end. The next number may be taken when

- the last one was given back;
- its owner is dead, which a process on the same machine knows at once;
- its heartbeat has not changed for as many seconds as the owner stated (`AGMBENCH_STALE`), by the clock of the process that watches. Times
  of other machines do not count, nor does time in which the watching process did not reach the store.

`left_behind` only looks: it finds, by the same rules, the claims that could be taken over.

An owner that could not renew its heartbeat in time does not trust its claim any more: before it writes anything, it takes the next number.
If another process has that number, the owner stops.
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
STALE = 60.0  # seconds without a heartbeat after which an owner counts as dead
BEATS = 4  # heartbeats in that time
TRUSTED = 0.75  # the share of that time in which an owner trusts its claim; the rest is for a write that is under way
ENOUGH = 10.0  # seconds to wait for a heartbeat that is being written
STAMP = "%Y-%m-%d %H:%M:%S UTC"  # the time of a heartbeat, by its owner's clock
PLACE = "AGMBENCH_PLACE"  # a launcher's name for the place where a job runs, such as its number in a queue


def stale() -> float:
    """The seconds after which an owner without a heartbeat counts as dead."""
    text = os.environ.get(VARIABLE) or str(STALE)
    with suppress(ValueError):
        if 1 <= (seconds := float(text)) < float("inf"):
            return seconds
    raise AgmbenchError(f"{VARIABLE}={text} should be a number of seconds, 1 or more")


def now() -> float:
    """The seconds of a clock that never goes back. If the system has such a clock, it also runs while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


@dataclass(frozen=True)
class Owner:
    """A process that has a claim. Texts that are not known are empty.

    machine: identifies one start of a machine and, on it, one space of process numbers.   begun: when the process began, which
    distinguishes it from a later process with the same number.   token: distinguishes its claims.   place: the launcher's name for the
    place where it runs.
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
        """The owner as a text, in the form that the store keeps."""
        return json.dumps({name: value for name, value in asdict(self).items() if value != ""})

    @property
    def dead(self) -> bool:
        """Whether the process is known to be gone; about a process of another machine nothing is known."""
        return bool(self.machine and self.begun) and self.machine == _machine() and _begun(self.pid) != self.begun


def me() -> Owner:
    """This process as an owner, with a new token at each call."""
    pid = os.getpid()
    return Owner(platform.node(), pid, _machine(), _begun(pid), uuid4().hex[:12], stale(), os.environ.get(PLACE, ""))


def owner(text: str) -> Owner | None:
    """The owner that a text from `Owner.text` describes; `None` if it cannot be read."""
    with suppress(ValueError, TypeError):
        return Owner(**{"machine": "", "begun": "", **json.loads(text)})
    return None


@cache
def _machine() -> str:
    """Identifies this start of the machine and the space of process numbers (each container has its own); empty except on Linux."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return ""


def _begun(pid: int) -> str:
    """When a process of this machine began, in ticks since the machine started; empty if there is no such process, or it has ended."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    return ""


class ClaimState(NamedTuple):
    """The state of a claim in the store: its highest number (0 if it was never taken) with its owner, and the last heartbeat."""

    number: int
    owner: Owner | None = None
    beat: str = ""
    free: bool = True

    @property
    def description(self) -> str:
        """A text that says who has the claim, and what its last heartbeat was."""
        beat = f"its last heartbeat is number {self.beat}" if self.beat else "it has given no heartbeat yet"
        return f"{self.owner or 'an unknown process'}; {beat}"

    @property
    def lasting(self) -> float:
        """The seconds without a heartbeat after which its owner counts as dead, as the owner stated."""
        return self.owner.stale if self.owner else stale()

    @property
    def pause(self) -> float:
        """The seconds between two looks at the claim."""
        return min(1.0, self.lasting / 10)

    @property
    def recent(self) -> bool:
        """Whether its last heartbeat is recent, by comparing the owner's clock with ours. That is reason enough not to watch the claim, but
        the opposite is no reason to take it."""
        with suppress(ValueError):
            told = datetime.strptime(self.beat.partition(" at ")[2], STAMP).replace(tzinfo=UTC)
            return abs(time.time() - told.timestamp()) < self.lasting
        return False


class Place(Protocol):
    """The place in the store where a claim is kept."""

    def state(self) -> ClaimState:
        """The current state of the claim."""

    def take(self, number: int, owner: Owner) -> bool:
        """Ask for a number; returns whether this owner has it now."""

    def beat(self, number: int, text: str) -> None:
        """Renew the heartbeat of a number."""

    def give_back(self, number: int) -> None:
        """Give a number back, because its owner is done."""


class Watch:
    """Remembers what was seen of a claim, to find out when its next number may be taken. An owner at the place `gone` counts as dead."""

    def __init__(self, gone: str = "") -> None:
        self._gone = gone
        self._seen: ClaimState | None = None
        self._looked = self._silent = 0.0
        self.heard = False  # whether the claim has changed since the first look

    def over(self, state: ClaimState) -> bool:
        """Whether the claim was given back, its owner is known to be dead, or there was no heartbeat for as long as the owner stated."""
        if state.free or (state.owner and (state.owner.dead or state.owner.place == self._gone != "")):
            return True
        return self.silent(state, state.pause) >= state.lasting

    def silent(self, state: ClaimState, pause: float) -> float:
        """For how many seconds the claim has not changed. Of the time between two looks, at most two `pause`s and a second count."""
        looked = now()
        self.heard = self.heard or state != (self._seen or state)
        self._silent = self._silent + min(looked - self._looked, 2 * pause + 1) if state == self._seen else 0.0
        self._seen, self._looked = state, looked
        return self._silent


def left_behind(places: Mapping[str, Place], watching: Callable[[float], None]) -> set[str]:
    """The names of those claims whose next number may be taken, by the rules of `Claim`; nothing is taken.

    A claim without a recent heartbeat is watched until it changes or may be taken. `watching` is called once, with the seconds that this
    may take.
    """
    watches, found, told = {name: Watch() for name in places}, set[str](), False
    while watches:
        states = {name: places[name].state() for name in watches}
        over = {name for name, watch in watches.items() if watch.over(states[name])}
        found |= over
        watches = {name: one for name, one in watches.items() if not (name in over or one.heard or states[name].recent)}
        if watches:
            if not told:
                watching(max(states[name].lasting for name in watches))
            told = True
            time.sleep(min(states[name].pause for name in watches))
    return found


class Claim:
    """A claim of this process. Entering it waits until no other process has it. `taken` is called once for each process that has it, and
    may raise to stop waiting. An owner at the place `gone` is known to be dead."""

    def __init__(self, place: Place, taken: Callable[[ClaimState], None], gone: str = "") -> None:
        self.place, self.owner, self._taken, self._watch = place, me(), taken, Watch(gone)
        self.number = 0
        self._trusted = 0.0  # until when the claim can be trusted, by the clock `now`
        self._beats = 0
        self._lost: Taken | None = None
        self._ended = threading.Event()
        self._one = threading.Lock()

    def __enter__(self) -> "Claim":
        told = False
        while True:
            state, begun = self.place.state(), now()
            if not self._watch.over(state):
                if not told:
                    self._taken(state)
                told = True
                time.sleep(state.pause)
                continue
            told = False
            with interrupts.delayed(then_check=False):  # so that a number that was taken is known, and given back later
                if self.place.take(state.number + 1, self.owner):
                    self.number, self._trusted = state.number + 1, begun + TRUSTED * self.owner.stale
                    break
        threading.Thread(target=self._beat_on, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._one.acquire(timeout=ENOUGH):  # no heartbeat may follow; but a heartbeat that hangs is not waited for
            if self._lost is None and now() < self._trusted:
                with suppress(Exception):  # if this fails, the claim becomes stale
                    self.place.give_back(self.number)
            self._one.release()

    def check(self) -> None:
        """Raise `Taken` if another process has the claim now. Call this before anything is written."""
        if now() >= self._trusted:
            self._renew()
        if self._lost is not None:
            raise self._lost

    def _renew(self) -> None:
        """Renew the heartbeat. If it is too late, take the next number; if another process has that, the claim is lost."""
        with self._one:
            if self._lost is not None or self._ended.is_set():
                return
            begun = now()
            if begun >= self._trusted and not self.place.take(self.number + 1, self.owner):
                state = self.place.state()
                self._lost = Taken(
                    f"{state.owner or 'an unknown process'} took it over, because this process gave no sign of life for "
                    f"{self.owner.stale:.0f} seconds; this process writes nothing more"
                )
                return
            self.number += begun >= self._trusted
            self._beats += 1
            self.place.beat(self.number, f"{self._beats} at {time.strftime(STAMP, time.gmtime())}")
            self._trusted = begun + TRUSTED * self.owner.stale

    def _beat_on(self) -> None:
        while not self._ended.wait(self.owner.stale / BEATS) and self._lost is None:
            with suppress(Exception):  # if the store does not answer, the code that writes to it raises
                self._renew()
