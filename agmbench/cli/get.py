"""`agmbench data get`."""

from typing import TYPE_CHECKING

import click

from agmbench.cli.options import Name, registry_option, root_option
from agmbench.cli.terminal import echo
from agmbench.cli.verbs import Verb
from agmbench.errors import AgmbenchError
from agmbench.registry import load

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from agmbench.datasets.files import Progress

    Shown = Callable[[str], AbstractContextManager[Progress]]  # shows the progress of what the text names


def command(shown: "Shown") -> click.Command:
    """Make the command; `shown` shows its progress in the same way as that of the other commands for data sets."""

    @click.command("get", cls=Verb)
    @click.argument("name", type=Name("dataset"))
    @click.option("--lists", is_flag=True, help="Download only lists and archives, no clips.")
    @root_option
    @registry_option
    def get(name: str, lists: bool) -> None:
        """Download a data set from its official source.

        Only files whose licence allows it are downloaded, and every file is checked. Run the same command again to resume a download that
        was interrupted.
        """
        from agmbench.data import get as downloads
        from agmbench.datasets.files import home

        entry, known = load().get("dataset", name), downloads.known()
        if entry.name not in known:
            said = f"agmbench data status {entry.name} says where to get it"
            raise AgmbenchError(f"'{entry.name}' cannot be downloaded by agmbench: {said}. Known: {', '.join(sorted(known))}")
        wanted = known[entry.name]
        folder = home(entry.name) / wanted.into
        for file in wanted.files:
            echo(f"{file.path}: {file.source}; {file.licence}", err=True)
        with downloads.alone(folder):
            for file in wanted.files:
                with shown(file.path) as progress:
                    fresh = downloads.fetch(file, folder, progress)
                held = (
                    "its checksum is right"
                    if file.sha256 or file.md5 or file.unpack
                    else "no checksum is published; that of this file is kept"
                )
                echo(f"{file.path}: {'downloaded' if fresh else 'here already'}, {held}", err=True)
            if wanted.clips and not lists:
                echo(f"clips: {wanted.clips.source}; {wanted.clips.licence}", err=True)
                with shown("clips") as progress:
                    echo(f"clips: {downloads.clips(wanted.clips, folder, progress)} downloaded", err=True)
        echo(f"'{entry.name}' is in {folder}; next: {wanted.then.format(folder=folder)}")

    return get
