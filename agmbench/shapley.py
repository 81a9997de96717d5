"""Shapley responses of modalities: the AGM paper, equations 2-4. They work for torch tensors and numpy arrays; torch is not imported."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from math import factorial
from typing import Any, TypeVar, cast

Coalition = frozenset[str]
Values = TypeVar("Values", bound=Any)  # a torch tensor, a numpy array or a number

MOST = 10  # modalities: each one more doubles the coalitions, and all of them are computed


def too_many(modalities: Sequence[str]) -> str | None:
    """The reason why this number of modalities is refused; `None` if it is not."""
    count = len(modalities)
    if count <= MOST:
        return None
    return (
        f"has {count} modalities, which would take {2**count - 1:,} passes over every batch, one for each coalition (set of modalities); "
        f"at most {MOST} modalities are allowed ({2**MOST - 1:,} passes)"
    )


def coalitions(modalities: Sequence[str]) -> list[Coalition]:
    """Every non-empty set of modalities, smallest first, in the order of `modalities`: 2^M - 1 of them."""
    if reason := too_many(modalities):
        raise ValueError(f"a model that {reason}")
    sizes = range(1, len(modalities) + 1)
    return [frozenset(chosen) for size in sizes for chosen in combinations(modalities, size)]


def coalition_name(coalition: Coalition, modalities: Iterable[str]) -> str:
    """The name of a coalition in the name of a metric, such as `audio:image`: its members in the order of `modalities`."""
    return ":".join(modality for modality in modalities if modality in coalition)


def responses(logits: Mapping[Coalition, Values], modalities: Sequence[str]) -> dict[str, Values]:
    """The Shapley response `phi_m` `[..., C]` of each modality, from the logits `[..., C]` of every non-empty coalition.

    The empty coalition is defined to have logits of zero. The responses of all modalities sum to `f(all)`, the logits with all present.
    """
    return {modality: _response(logits, modalities, modality) for modality in modalities}


def _response(logits: Mapping[Coalition, Values], modalities: Sequence[str], modality: str) -> Values:
    # the sum is over coalitions, so that each tensor enters the graph once:
    # f(S) has the weight (|S|-1)! (M-|S|)! / M! if m is in S, and - |S|! (M-|S|-1)! / M! if not
    count = len(modalities)
    terms = []
    for coalition, value in logits.items():
        size = len(coalition)
        if modality in coalition:
            terms.append(value * (factorial(size - 1) * factorial(count - size) / factorial(count)))
        else:
            terms.append(value * (-factorial(size) * factorial(count - size - 1) / factorial(count)))
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return cast(Values, total)
