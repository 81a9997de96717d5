"""A docstring, which is plain text, as Markdown: prose, equations as code blocks, and what it says of each parameter."""

import inspect
import re
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

OFFICIAL = "Official code:"


class Described(NamedTuple):
    """`text` and `official`, how it differs from the authors' code, are Markdown; so are `meanings`, one for each group of names."""

    text: str
    official: str
    meanings: dict[tuple[str, ...], str]


def described(docstring: str | None, names: Collection[str]) -> Described:
    """What a docstring says, of it and of the parameters with those names."""
    text: list[str] = []
    official: list[str] = []
    meanings: dict[tuple[str, ...], str] = {}
    for block in inspect.cleandoc(docstring or "").split("\n\n"):
        for group, lines in _items(block.splitlines(), names):
            if group:
                meanings[group] = prose(" ".join(lines))
            elif lines[0].startswith(OFFICIAL):
                official.append(_sentence(_block([lines[0].removeprefix(OFFICIAL), *lines[1:]])))
            else:
                text.append(_block(lines))
    return Described("\n\n".join(text), "\n\n".join(official), meanings)


def _items(lines: Sequence[str], names: Collection[str]) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """A block cut into what it says of parameters, `name, name: text` with indented lines behind, and other lines."""
    group: tuple[str, ...] = ()
    found: list[str] = []
    for line in lines:
        head, colon, rest = line.partition(": ")
        heads = tuple(head.split(", ")) if colon else ()
        begins = bool(heads) and set(heads) <= set(names)
        if found and (begins or (group and not line.startswith(" "))):
            yield group, found
            group, found = (), []
        group = heads if begins else group
        found.append(rest if begins else line)
    if found:
        yield group, found


def _block(lines: Sequence[str]) -> str:
    if all(line.startswith("    ") for line in lines):
        return "\n".join(["```text", *(line[4:] for line in lines), "```"])
    if lines[0].startswith("|"):
        return "\n".join(lines)
    if lines[0].startswith("- "):
        return "\n".join(map(prose, lines))
    return prose(" ".join(line.strip() for line in lines))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def prose(text: str) -> str:
    """Plain text in which only `code` and **bold** mean something, as Markdown."""
    pieces = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(piece if piece.startswith("`") else _escaped(piece) for piece in pieces)


def _escaped(text: str) -> str:
    text = re.sub(r"(?<!\*)\*(?!\*)|[\\_|]", r"\\\g<0>", text)
    return text.replace("<", "&lt;")
