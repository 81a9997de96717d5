"""Batches among ranks: each rank reads its own samples of a batch, and then all ranks have the whole batch."""

from collections.abc import Iterator, Sequence

from agmbench.contracts import Batch, Input, SplitName, Tokens, in_memory
from agmbench.distributed.ranks import Ranks, here
from agmbench.loading import Feed, Request


class DealtFeed(Feed):
    """A feed among ranks. A split in memory is already on every rank; of any other split, each sample is read by one rank and sent to
    all."""

    def _batches(self, name: SplitName, requests: Sequence[Request]) -> Iterator[Batch]:
        ranks = here()
        if ranks is None or in_memory(self.splits[name]):
            yield from super()._batches(name, requests)
            return
        dealt = [ranks.deals(len(request.samples)) for request in requests]
        own = [
            request._replace(samples=request.samples[ranks.own(len(request.samples))]) if deals else request
            for request, deals in zip(requests, dealt, strict=True)
        ]
        for request, deals, batch in zip(requests, dealt, super()._batches(name, own), strict=True):
            yield _whole(batch, len(request.samples), ranks) if deals else batch


def _whole(batch: Batch, count: int, ranks: Ranks) -> Batch:
    inputs = {m: _whole_input(x, count, ranks) for m, x in batch.inputs.items()}
    absent = {m: ranks.rows(lacking, count) for m, lacking in batch.absent.items()}
    weights = None if batch.weights is None else ranks.rows(batch.weights, count)
    return Batch(inputs, ranks.rows(batch.targets, count), ranks.rows(batch.index, count), absent=absent, weights=weights)


def _whole_input(x: Input, count: int, ranks: Ranks) -> Input:
    if not isinstance(x, Tokens):
        return ranks.rows(x, count)
    mask = None if x.mask is None else ranks.rows(x.mask, count)
    return Tokens(ranks.rows(x.values, count), mask)
