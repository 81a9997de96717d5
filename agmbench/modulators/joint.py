"""Joint training: the baseline that every modulator repairs."""

from agmbench.contracts import Batch, Model, Modulator, Promises, Step


class Joint(Modulator):
    """Plain gradients for all modalities together; no parameters.

        L = CE( f, y ),   f the logits with every modality present;

    on other tasks than one label, the task's own loss.
    """

    promises = Promises(neutral={}, weights=True)

    def backward(self, model: Model, batch: Batch) -> Step:
        logits = model.fusion(model.encode(batch.inputs)).logits
        loss = model.loss(logits, batch.targets, batch.weights)
        loss.backward()
        return Step(loss.detach(), logits.detach())
