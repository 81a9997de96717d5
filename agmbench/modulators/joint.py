"""Joint training: the baseline that every modulator repairs."""

from agmbench.contracts import Batch, Model, Modulator, Promises, Step


class Joint(Modulator):
    """Plain gradients of `CE(f, y)` for all modalities together; no parameters."""

    promises = Promises(neutral={})

    def backward(self, model: Model, batch: Batch) -> Step:
        logits = model.fusion(model.encode(batch.inputs)).logits
        loss = model.loss(logits, batch.targets)
        loss.backward()
        return Step(loss.detach(), logits.detach())
