"""Addresses of stores made safe to show: without user, password and query, because each of them may be or contain a secret."""

import json
import re
from urllib.parse import unquote, unquote_plus

HIDDEN = "***"
IN_A_TEXT = re.compile(r"(?<=://)[^\s/'\"][^\s'\"]*@")  # what stands before the host in any address


def shown(address: str) -> str:
    """An address without its secrets. It need not be valid: whatever stands before the last '@' is treated as a secret."""
    scheme, slashes, rest = address.partition("://")
    if not slashes:
        scheme, rest = "", address
    before, at, host = ("", "", rest) if rest.startswith("/") else rest.rpartition("@")
    place, question, _ = host.partition("?")
    return f"{scheme}{slashes}{HIDDEN if before else ''}{at}{place}{question}{HIDDEN if question else ''}"


def hidden(text: str, address: str) -> str:
    """A text, such as a library's error, without the secrets of an address, in whatever way the text escapes them."""
    text = text.replace(address, shown(address))
    for secret in sorted(_secrets(address), key=len, reverse=True):
        text = re.sub(
            rf"(?:(?<!\w)|(?<=%[0-9a-f]{{2}})){''.join(map(_forms, secret))}(?!\w)", HIDDEN, text, flags=re.IGNORECASE
        )
    return IN_A_TEXT.sub(f"{HIDDEN}@", text)


def _secrets(address: str) -> set[str]:
    """User and password, the values of the query, and the pieces of each, both as they are written and unescaped."""
    rest = address.partition("://")[2] or address
    before, _, host = ("", "", rest) if rest.startswith("/") else rest.rpartition("@")
    values = [value.partition("=")[2] for value in host.partition("?")[2].split("&")]
    whole = {form for text in (before, before.partition(":")[2], *values) for form in (text, unquote(text), unquote_plus(text))}
    return (whole | {piece for text in whole for piece in re.split(r"[:/?#@&=]", text)}) - {""}


def _forms(letter: str) -> str:
    """A pattern that matches one letter in every form in which libraries write it: plain, or escaped in an address, a Python or JSON
    string, or bytes."""
    if letter.isascii() and letter.isalnum():
        return f"(?:{letter}|%{ord(letter):02x})"
    numbers = letter.encode("utf-8", "surrogatepass")
    escaped = ["".join(f"%{number:02x}" for number in numbers), r"\\+".join(f"x{number:02x}" for number in numbers)]
    plain = {letter, ascii(letter)[1:-1].lstrip("\\"), json.dumps(letter)[1:-1].lstrip("\\")} - {""}
    plain |= {"+"} if letter == " " else set()
    return r"\\*(?:" + "|".join([*escaped, *map(re.escape, plain)]) + ")"
