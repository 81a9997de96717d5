"""Which names modalities and classes may have. They become part of metrics, settings, files, tables and plots."""

import re
from collections.abc import Iterable
from reprlib import repr as short

from agmbench.errors import UNSEEN

MODALITY = re.compile(r"[^\W_]\w*(?:[ -]+\w+)*")
LONGEST = 100


def refused(modalities: Iterable[object], class_names: Iterable[object]) -> str:
    """The reason why the names of a data set cannot be used; empty if they can."""
    for name in modalities:
        if not (isinstance(name, str) and len(name) <= LONGEST and MODALITY.fullmatch(name)):
            return (
                f"a modality is called {short(name)}; a name should consist of letters, digits and '_', with '-' or spaces between them, "
                f"begin with a letter or digit, and have at most {LONGEST} characters"
            )
    for number, name in enumerate(class_names):
        if not (isinstance(name, str) and len(name) <= LONGEST and name.strip()) or UNSEEN.search(name) or {*"\n\t"} & {*name}:
            return f"class {number} is called {short(name)}; a name should be one line of printable text, at most {LONGEST} characters"
    return ""
