"""`agmbench plugin`: new."""

from pathlib import Path

import click

from agmbench.cli.options import Kind
from agmbench.cli.terminal import echo
from agmbench.cli.verbs import Verbs


@click.group("plugin", cls=Verbs)
def command() -> None:
    """Create a component of your own, without changing agmbench: a folder in plugins/, or a package to install."""


@command.command("new")
@click.argument("kind", type=Kind())
@click.argument("name")
@click.option("--package", is_flag=True, help="Make a project that pip can install, with entry point, tests and CI.")
@click.option(
    "--into",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Parent folder. [default: plugins; with --package: the working directory]",
)
def new(kind: str, name: str, package: bool, into: Path | None) -> None:
    """Create a working skeleton of a component, with a README and a test. It passes agmbench check as it is."""
    from agmbench.skeleton import Skeleton, write

    skeleton = Skeleton(kind, name, package)
    folder = write(skeleton, into or Path("." if package else "plugins"))
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    echo(f"made {folder}: {', '.join(files)}\nnext:")
    check = f"agmbench check {kind}/{name}"
    if package:
        commands = [f"python -m pip install --editable {folder}", check, skeleton.use]
    else:
        found = folder.resolve().parent == Path("plugins").resolve()
        own = "" if found else f" --registry {folder / 'registry.yaml'}"
        commands = [f"{check}{own}", f"{skeleton.use}{own}", "agmbench compare"]
    for words in commands:
        echo(f"  {words}")
