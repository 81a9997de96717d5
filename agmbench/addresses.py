"""Addresses of stores as they may be told: without user, password and query, any of which may be a secret or hold one."""

import json
import re
from urllib.parse import unquote, unquote_plus

HIDDEN = "***"
IN_A_TEXT = re.compile(r"(?<=://)[^\s/'\"][^\s'\"]*@")  # what is before the host of any address


def shown(address: str) -> str:
    """An address without its secrets. It need not be a sound one: whatever stands before the last '@' is taken for a secret."""
    scheme, slashes, rest = address.partition("://")
    if not slashes:
        scheme, rest = "", address
    before, at, host = ("", "", rest) if rest.startswith("/") else rest.rpartition("@")
    place, question, _ = host.partition("?")
    return f"{scheme}{slashes}{HIDDEN if before else ''}{at}{place}{question}{HIDDEN if question else ''}"


def hidden(text: str, address: str) -> str:
    """A text, such as an error of a library, without the secrets of an address, however they are escaped in it."""
    text = text.replace(address, shown(address))
    for secret in sorted(_secrets(address), key=len, reverse=True):
        text = re.sub(
            rf"(?:(?<!\w)|(?<=%[0-9a-f]{{2}})){''.join(map(_forms, secret))}(?!\w)", HIDDEN, text, flags=re.IGNORECASE
        )
    return IN_A_TEXT.sub(f"{HIDDEN}@", text)


def _secrets(address: str) -> set[str]:
    """User and password, the values of the query, and the pieces of each, as they are and unescaped."""
    rest = address.partition("://")[2] or address
    before, _, host = ("", "", rest) if rest.startswith("/") else rest.rpartition("@")
    values = [value.partition("=")[2] for value in host.partition("?")[2].split("&")]
    whole = {form for text in (before, before.partition(":")[2], *values) for form in (text, unquote(text), unquote_plus(text))}
    return (whole | {piece for text in whole for piece in re.split(r"[:/?#@&=]", text)}) - {""}


def _forms(letter: str) -> str:
    """A pattern of one letter as libraries write it: itself, escaped in an address, in a string of Python or JSON, in bytes."""
    if letter.isascii() and letter.isalnum():
        return f"(?:{letter}|%{ord(letter):02x})"
    numbers = letter.encode("utf-8", "surrogatepass")
    escaped = ["".join(f"%{number:02x}" for number in numbers), r"\\+".join(f"x{number:02x}" for number in numbers)]
    plain = {letter, ascii(letter)[1:-1].lstrip("\\"), json.dumps(letter)[1:-1].lstrip("\\")} - {""}
    plain |= {"+"} if letter == " " else set()
    return r"\\*(?:" + "|".join([*escaped, *map(re.escape, plain)]) + ")"
