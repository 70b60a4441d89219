"""The number of a training step."""

from typing import Any

from keras import ops


def updates_counter(optimizer: Any) -> Any:
    """The variable in which an optimizer counts its calls.

    Its public `iterations` are whole updates, which may be of several batches each.
    """
    return getattr(optimizer, "inner_optimizer", optimizer)._iterations


class Steps:
    """Which step of its life a model is at: by the optimizer's own count where that is one.

    A training step of the user's own may have another optimizer, or call this one more than
    once: then what was counted here is right.

    Args:
        model: Compiled, or None.
    """

    def __init__(self, model: Any = None) -> None:
        self.model, self.next = model, 0
        # Our number and the optimizer's, when they were last compared.
        self._compared: tuple[int, int] | None = None
        self._agree = True

    def take(self) -> range:
        """The steps of the next call of the train function."""
        block = range(self.next, self.next + self.model.steps_per_execution)
        self.next = block.stop
        return block

    def compare(self, begins: bool = False, least: int = 0) -> None:
        """Set ours right. Not within an epoch: there JAX has the optimizer's away.

        Args:
            begins: Whether a `fit` begins, before which another state may have been loaded.
            least: That it may be.
        """
        theirs = self._theirs()
        if self._compared is not None and self.next > self._compared[0]:
            ran = self._ran(self.next, theirs, least=0 if begins else 1)
            self._agree = ran is not None
            if ran is not None:
                self.next = self._compared[0] + ran
        if self._compared is None or (begins and self._agree):
            self.next = theirs
        self.next = max(self.next, least)
        self._compared = self.next, theirs

    def last(self, block: range, ran: int) -> int:
        """The last step of a block that was run: the data may have ended within.

        Args:
            block: Of steps.
            ran: How many of them, if it is known; else 0.
        """
        if len(block) > 1 and not ran and self._compared is not None:
            found = self._ran(block.stop, self._theirs())
            ran = len(block) if found is None else self._compared[0] + found - block.start
        return block[min(max(ran, 1), len(block)) - 1]

    def _ran(self, upto: int, theirs: int, least: int = 1) -> int | None:
        """Steps since the last comparison; None if the optimizer does not count them.

        The end of the data cuts the last block short; an interrupt may leave none.
        """
        ours_then, theirs_then = self._compared or (0, 0)
        most, ran = upto - ours_then, theirs - theirs_then
        return ran if max(most - self.model.steps_per_execution, least) <= ran <= most else None

    def _theirs(self) -> int:
        if self.model.optimizer is None:
            return self.next
        return int(ops.max(updates_counter(self.model.optimizer).value))
