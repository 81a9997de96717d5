"""Joint training: the baseline that every modulator repairs."""

from agmbench.contracts import Batch, Model, Modulator, Promises, Step


class Joint(Modulator):
    """Plain gradients of one loss for all modalities together. It has no parameters.

        L = CE( f, y ),   f the logits with every modality present

    On tasks other than one class per sample, L is the loss of the task.
    """

    promises = Promises(neutral={}, weights=True)

    def backward(self, model: Model, batch: Batch) -> Step:
        logits = model.fusion(model.encode(batch.inputs)).logits
        loss = model.loss(logits, batch.targets, batch.weights)
        loss.backward()
        return Step(loss.detach(), logits.detach())
