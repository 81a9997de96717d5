"""Prints how long methods are: all lines of a modulator's file, and its lines of code without docstrings, comments and blank lines.

    python scripts/lines.py [--most 5]

Only modulators that build on no other method are listed, the shortest first.
"""

import argparse
import ast
import inspect
import io
import tokenize
from pathlib import Path

import agmbench.registry as registry
from agmbench.contracts import Modulator


def code_lines(text: str) -> int:
    """The number of lines that have anything other than a comment or a docstring."""
    quiet = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in quiet:
            found.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            said = node.body[0]
            found -= set(range(said.lineno, (said.end_lineno or said.lineno) + 1))
    return len(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=5)
    rows = []
    for entry in registry.builtin().entries("modulator"):
        target = entry.load()
        if target.__bases__ == (Modulator,):
            text = Path(inspect.getfile(target)).read_text(encoding="utf-8")
            rows.append((code_lines(text), len(text.splitlines()), entry.name))
    print("| method | lines | of code |\n|---|---:|---:|")
    for code, lines, name in sorted(rows)[: parser.parse_args().most]:
        print(f"| `{name}` | {lines} | {code} |")


if __name__ == "__main__":
    main()
