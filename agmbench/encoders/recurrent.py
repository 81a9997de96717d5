"""An LSTM that also gives gradients in eval mode."""

from torch import nn


class Recurrent(nn.LSTM):
    """An LSTM that is always in training mode, because cuDNN gives gradients only there, and AGM's muted passes need gradients in eval
    mode. The LSTM has no dropout inside, so both modes compute the same."""

    same_in_training = True

    def train(self, mode: bool = True) -> "Recurrent":
        super().train()
        return self
