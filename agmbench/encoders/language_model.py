"""Any Hugging Face language model over tokenized text."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModel

from agmbench.contracts import Encoder, Input, Tokens, Unsuitable
from agmbench.encoders.states import States


class LanguageModel(Encoder):
    """`AutoModel.from_pretrained(model)` over `[B, 3, T]`: ids, mask and segments from a tokenizer (MMSA's `text_bert`). The last hidden
    states are tokens `[B, T, hidden_size]`.

    model: a name on the Hugging Face hub, which needs a network once, or a folder. Default bert-base-uncased, whose ids MMSA uses.
    config: build the model from this configuration (`model_type` and its own keys) with random weights instead; needs no network.
    frozen: keep its weights as they are. Default: they are trained.
    """

    same_in_training = True
    reads_numbers = True

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        model: str = "bert-base-uncased",
        config: dict[str, Any] | None = None,
        frozen: bool = False,
    ) -> None:
        super().__init__(shape)
        if len(shape) != 2 or shape[0] != 3:
            raise Unsuitable(f"takes ids, mask and segments [3, T]; found the shape {list(shape)}; take encoder lstm")
        try:
            body: Any = AutoModel.from_pretrained(model) if config is None else AutoModel.from_config(_config(config))
            if hasattr(body, "pooler"):
                body.pooler = None  # nothing here reads its output, so it would have no gradient
            self.body = body
            self._states = States(body)
            self.eval()
            with torch.no_grad():
                self.out_features = self(torch.zeros(1, *shape)).values.shape[2]
        except Exception as error:  # the hub, a configuration and a model raise what they like
            what = f"'{model}'" if config is None else f"a model from {config}"
            raise Unsuitable(f"transformers cannot load {what}: {' '.join(str(error).split())}") from error
        self.train()
        body.requires_grad_(not frozen)

    def forward(self, x: Input) -> Tokens:
        values = x.values if isinstance(x, Tokens) else x
        ids, mask, segments = values.round().long().unbind(dim=1)  # each [B, T]
        return self._states(self.body, ids, mask > 0, segments)


def _config(config: dict[str, Any]) -> Any:
    if "model_type" not in config:
        raise ValueError("config needs a 'model_type', such as bert")
    return AutoConfig.for_model(**config)
