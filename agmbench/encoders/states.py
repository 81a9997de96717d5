"""The last hidden states of a Hugging Face text network."""

import inspect
from typing import Any

import torch
from torch import Tensor

from agmbench.contracts import Tokens


class States:
    """Calls a network on ids, mask and segments `[B, T]`.

    For a mask `[B, T]`, transformers asks whether it hides anything, and on a GPU waits for the answer. A mask that says for each token
    which others it sees, `[B, 1, T, T]`, is taken as it is. Networks that give the same for both are given the latter.
    """

    def __init__(self, net: Any) -> None:
        self.takes_segments = "token_type_ids" in inspect.signature(net.forward).parameters
        self.square = False
        self.square = self._same(net)

    @torch.no_grad()
    def _same(self, net: Any) -> bool:
        """Whether this network gives the same states for both kinds of mask, tried on two texts of six tokens, one with two hidden."""
        training, state = net.training, torch.get_rng_state()
        try:
            ids = torch.arange(12).view(2, 6) % min(7, net.config.vocab_size)
            mask = torch.tensor([[True] * 4 + [False] * 2, [True] * 6])
            net.eval()
            flat = self(net, ids, mask, torch.zeros_like(ids)).values[mask]
            self.square = True
            return torch.allclose(self(net, ids, mask, torch.zeros_like(ids)).values[mask], flat, rtol=1e-4, atol=1e-5)
        except Exception:  # the network does not take such a mask
            return False
        finally:
            net.train(training)
            torch.set_rng_state(state)

    def __call__(self, net: Any, ids: Tensor, mask: Tensor, segments: Tensor) -> Tokens:
        """Return tokens `[B, T, D]` with the mask. The network sees the first place of a text that has no token at all."""
        seen = torch.cat([mask[:, :1] | ~mask.any(dim=1, keepdim=True), mask[:, 1:]], dim=1)  # attention needs one token
        count = ids.shape[1]
        given = {"attention_mask": seen[:, None, None, :].expand(-1, 1, count, count) if self.square else seen.long()}
        if self.takes_segments:
            given["token_type_ids"] = segments.clamp(0, max(0, getattr(net.config, "type_vocab_size", 1) - 1))
        states: Tensor = net(ids.clamp(0, net.config.vocab_size - 1), **given).last_hidden_state
        return Tokens(states, mask)
