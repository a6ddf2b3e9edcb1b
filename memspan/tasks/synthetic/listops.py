"""ListOps: nested lists of digits with an operation each, to be worked out from the outside in."""

import random

import torch

from memspan.errors import UsageError
from memspan.tasks.base import IGNORE_INDEX, Batch, Task

DIGITS = 10
OPERATIONS = ("MIN", "MAX", "MED", "SM")  # of a list; SM is the sum modulo 10
END = DIGITS + len(OPERATIONS)  # closes a list
PAD, ANSWER = END + 1, END + 2
MOST_ARGUMENTS = 5
NESTED = 0.25  # the chance that an argument is a list itself


class ListOps(Task):
    """One expression a stream, such as `[MAX 2 9 [MIN 4 7] 0]`; the last token asks for its value, a digit.

    Nangia and Bowman 2018, with the operations of that paper and inner lists of 2 to 5 arguments. A deviation: the outermost list
    has as many arguments as fill half of the stream, so that expressions are as long as streams; padding stands before them.
    Guessing is right once in ten.

    Args:
        depth: lists within lists, at most.
        segment: tokens of a segment.
    """

    def __init__(self, depth: int = 6, segment: int = 32) -> None:
        if depth < 1:
            raise UsageError(f"depth must be at least 1, got depth={depth}.")
        if segment < 8:
            raise UsageError(f"segment must be at least 8 tokens, got segment={segment}.")
        self.depth, self.segment, self.vocabulary = depth, segment, ANSWER + 1

    def batch(self, batch_size: int, segments: int, generator: torch.Generator) -> Batch:
        length = segments * self.segment
        rng = random.Random(int(torch.randint(2**62, (), generator=generator)))
        ids = torch.full((batch_size, length), PAD)
        targets = torch.full_like(ids, IGNORE_INDEX)
        for row in range(batch_size):
            tokens, value = self._expression(rng, length - 1)
            ids[row, -1 - len(tokens) : -1] = torch.tensor(tokens)
            ids[row, -1], targets[row, -1] = ANSWER, value
        return Batch(ids, targets)

    def _expression(self, rng: random.Random, room: int) -> tuple[list[int], int]:
        """A list with arguments for half of the room, and its value; never more than `room` tokens."""
        tokens, values = list[int](), list[int]()
        while len(tokens) < room // 2 or not values:
            argument, value = self._argument(rng, self.depth - 1)
            if len(tokens) + len(argument) + 2 > room:
                argument, value = self._argument(rng, 0)
            tokens += argument
            values.append(value)
        operation = rng.randrange(len(OPERATIONS))
        return [DIGITS + operation, *tokens, END], apply(operation, values)

    def _argument(self, rng: random.Random, depth: int) -> tuple[list[int], int]:
        """A digit, or a list that is at most `depth` lists deep, and its value."""
        if depth == 0 or rng.random() >= NESTED:
            digit = rng.randrange(DIGITS)
            return [digit], digit
        operation = rng.randrange(len(OPERATIONS))
        arguments = [self._argument(rng, depth - 1) for _ in range(rng.randint(2, MOST_ARGUMENTS))]
        tokens = [token for argument, _ in arguments for token in argument]
        return [DIGITS + operation, *tokens, END], apply(operation, [value for _, value in arguments])


def apply(operation: int, values: list[int]) -> int:
    """The value of a list of digits by the number of its operation."""
    ordered = sorted(values)
    return {"MIN": ordered[0], "MAX": ordered[-1], "MED": ordered[len(ordered) // 2], "SM": sum(values) % DIGITS}[
        OPERATIONS[operation]
    ]
