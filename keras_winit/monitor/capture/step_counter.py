"""Counts training steps over several `fit` calls and resumed runs."""

from typing import Any

from keras import ops


def updates_counter(optimizer: Any) -> Any:
    """Return the variable in which an optimizer counts its calls.

    The public `iterations` count whole updates, each of which may take several batches.
    """
    return getattr(optimizer, "inner_optimizer", optimizer)._iterations


class StepCounter:
    """Numbers the training steps of a model, in accord with the optimizer's count if possible.

    A custom training step may use another optimizer, or call this one more than once: then the
    steps that were counted here are right.

    Args:
        model: Compiled, or None.
    """

    def __init__(self, model: Any = None) -> None:
        self.model, self.next = model, 0
        # The steps that we and the optimizer had counted when the two were last compared.
        self._compared: tuple[int, int] | None = None
        self._agree = True

    def take(self) -> range:
        """Return the steps of the next call of the train function, and count them."""
        block = range(self.next, self.next + self.model.steps_per_execution)
        self.next = block.stop
        return block

    def correct(self, begins: bool = False, least: int = 0) -> None:
        """Correct the count by the optimizer's, which has no value within an epoch on JAX.

        Args:
            begins: Whether a `fit` begins, before which another state may have been loaded.
            least: Lower bound of the next step.
        """
        optimizer_count = self._optimizer_count()
        if self._compared is not None and self.next > self._compared[0]:
            ran = self._steps_run(self.next, optimizer_count, least=0 if begins else 1)
            self._agree = ran is not None
            if ran is not None:
                self.next = self._compared[0] + ran
        if self._compared is None or (begins and self._agree):
            self.next = optimizer_count
        self.next = max(self.next, least)
        self._compared = self.next, optimizer_count

    def last(self, block: range, ran: int) -> int:
        """Return the last step of a block that ran: the data may have ended within the block.

        Args:
            block: Steps of one call of the train function.
            ran: How many of them ran, or 0 if that is not known.
        """
        if len(block) > 1 and not ran and self._compared is not None:
            total = self._steps_run(block.stop, self._optimizer_count())
            ran = len(block) if total is None else self._compared[0] + total - block.start
        return block[min(max(ran, 1), len(block)) - 1]

    def _steps_run(self, stop: int, optimizer_count: int, least: int = 1) -> int | None:
        """Return the steps since the last comparison; None if the optimizer does not count them.

        The end of the data cuts the last block short; an interrupt may leave none of it.
        """
        our_count, earlier_count = self._compared or (0, 0)
        most, ran = stop - our_count, optimizer_count - earlier_count
        return ran if max(most - self.model.steps_per_execution, least) <= ran <= most else None

    def _optimizer_count(self) -> int:
        if self.model.optimizer is None:
            return self.next
        return int(ops.max(updates_counter(self.model.optimizer).value))
