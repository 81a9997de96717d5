"""Prints how long files and functions are, compared with the targets of CONTRIBUTING.md. `python scripts/lengths.py`"""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "agmbench"
FILE, FUNCTION, MOST = 400, 50, 16  # the most lines of a file, of a function, and of nine functions in ten


def functions(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number of lines of each function in a file (with its docstring, without decorators) and where the function is."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            yield lines, f"{path.relative_to(PACKAGE.parent)}:{node.lineno} {node.name}"


def main() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    found = sorted(one for path in files for one in functions(path))
    lengths = [lines for lines, _ in found]
    half, nine_tenths = (lengths[int(len(lengths) * share)] for share in (0.5, 0.9))
    print(f"{len(lengths)} functions: half have up to {half} lines, nine in ten up to {nine_tenths} (wanted: {MOST})")
    for lines, place in found[::-1]:
        if lines > FUNCTION:
            print(f"{lines} lines, more than {FUNCTION}: {place}")
    for path in files:
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > FILE:
            print(f"{lines} lines, more than {FILE}: {path.relative_to(PACKAGE.parent)}")


if __name__ == "__main__":
    main()
