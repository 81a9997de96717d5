"""An LSTM that also gives gradients in eval mode."""

from torch import nn


class Recurrent(nn.LSTM):
    """Always in training mode, in which alone cuDNN gives gradients (AGM's muted passes run in eval mode and want them); without
    dropout inside, the modes are the same."""

    same_in_training = True

    def train(self, mode: bool = True) -> "Recurrent":
        super().train()
        return self
