"""Turns a docstring, which is plain text, into Markdown: prose, equations as code blocks, and the meaning of each parameter."""

import inspect
import re
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

OFFICIAL = "Official code:"


class Described(NamedTuple):
    """The parts of a docstring as Markdown: its `text`, the differences from `official` code, and a meaning for each group of names."""

    text: str
    official: str
    meanings: dict[tuple[str, ...], str]


def described(docstring: str | None, names: Collection[str]) -> Described:
    """Divide a docstring into its text and the meanings of the parameters with these names."""
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
    """Cut a block into the descriptions of parameters (`name, name: text`, then indented lines) and other lines, whose names are empty."""
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
    """Turn plain text into Markdown, in which only `code` and **bold** keep their meaning."""
    pieces = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(piece if piece.startswith("`") else _escaped(piece) for piece in pieces)


def _escaped(text: str) -> str:
    text = re.sub(r"(?<!\*)\*(?!\*)|[\\_|]", r"\\\g<0>", text)
    return text.replace("<", "&lt;")
