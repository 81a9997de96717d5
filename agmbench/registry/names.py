"""The registry: everything that was found, by kind and name."""

from collections.abc import Iterable

from agmbench.errors import AgmbenchError, allowed, normalized
from agmbench.registry.entry import BUILT_IN, KINDS, Broken, Entry, Found, Matrix


class Registry:
    """Entries by kind and name (or alias), and suites by name.

    A name that is broken, or that two places define, raises an error when it is used; all other names work.
    """

    def __init__(self, found: Iterable[Found]) -> None:
        self._claims: dict[tuple[str, str], list[Found]] = {}
        self._unread: list[Broken] = []
        for one in found:
            if isinstance(one, Broken) and not one.name:
                self._unread.append(one)
            else:
                self._claim(one)

    def plus(self, one: Entry) -> "Registry":
        """A new registry with one more entry."""
        grown = Registry([one])
        for key, claims in self._claims.items():
            grown._claims[key] = [*claims, *grown._claims.get(key, [])]
        grown._unread = self._unread
        return grown

    def _claim(self, one: Found) -> None:
        for name in (one.name, *one.aliases):
            claims = self._claims.setdefault((one.kind, name), [])
            if not any(other.place == one.place for other in claims):  # the same file may be found twice
                claims.append(one)

    @property
    def broken(self) -> list[Broken]:
        """Every file that cannot be read and every name that cannot be used."""
        names = [self._trouble(kind, name) for kind, name in sorted(self._claims)]
        return [*self._unread, *(trouble for trouble in names if trouble is not None)]

    def _trouble(self, kind: str, name: str) -> Broken | None:
        claims = self._claims[kind, name]
        if len(claims) == 1:
            return claims[0] if isinstance(claims[0], Broken) else None
        times = "twice" if len(claims) == 2 else f"{len(claims)} times"
        places, origins = (" and in ".join(one.place for one in claims), ", ".join(one.origin for one in claims))
        reason = f"{kind} '{name}' is defined {times}: in {places}; rename one of them"
        return Broken(kind, name, places, origins, reason)

    def get(self, kind: str, name: str) -> Entry:
        """The entry of this kind with this name or alias."""
        found = self._found(kind, name)
        assert isinstance(found, Entry)
        return found

    def suite(self, name: str) -> Matrix:
        """The suite of this name."""
        found = self._found("suite", name)
        assert isinstance(found, Matrix)
        return found

    def _found(self, kind: str, name: str) -> Found:
        name = self.spelling(kind, name)
        if (kind, name) not in self._claims:
            unread = "".join(f" Not read: {broken.reason.rstrip('.')}." for broken in self._unread)
            raise AgmbenchError(f"unknown {kind} '{name}': {allowed(name, self.names(kind), listing(kind))}{unread}")
        if trouble := self._trouble(kind, name):
            raise AgmbenchError(trouble.reason)
        return self._claims[kind, name][0]

    def spelling(self, kind: str, name: str) -> str:
        """The known name that differs from this one only in capital letters and underscores, if there is just one; else the given name."""
        if (kind, name) in self._claims:
            return name
        same = [known for of, known in self._claims if of == kind and normalized(known) == normalized(name)]
        return same[0] if len(same) == 1 else name

    def names(self, kind: str) -> list[str]:
        """Every usable name of this kind, including aliases."""
        return sorted(name for of, name in self._claims if of == kind and self._trouble(of, name) is None)

    def entries(self, kind: str | None = None) -> list[Entry]:
        """Usable entries, in the order of KINDS, then by name."""
        kinds = KINDS if kind is None else (kind,)
        return [entry for of in kinds for name in self.names(of) if (entry := self.get(of, name)).name == name]

    def versions(self) -> dict[str, str]:
        """The versions of the built-in entries, by target."""
        return {entry.target: entry.version for entry in self.entries() if entry.origin == BUILT_IN}

    def suites(self) -> list[Matrix]:
        """The usable suites."""
        return [self.suite(name) for name in self.names("suite")]


def listing(kind: str) -> str:
    """The command that lists every name of a kind."""
    return "agmbench suite list" if kind == "suite" else f"agmbench list {kind}s"
