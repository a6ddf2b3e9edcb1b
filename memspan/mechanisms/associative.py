"""Recent keys unchanged, older tokens in a matrix of fixed size for every key head.

Letters: B batch, H key heads, Hq query heads, S queries, N keys, K head size, Z size of a key of the matrix, R rows told
apart, M tokens that leave the window, L tokens of a block, G chunks.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, normalize, silu

from memspan.errors import UsageError
from memspan.mechanisms.base import Recalled
from memspan.mechanisms.layers import window as windows
from memspan.mechanisms.layers.delta_rule import gated_delta_rule
from memspan.mechanisms.layers.precision import at_least_single, exact, exact_products
from memspan.mechanisms.layers.transformer_layer import TransformerLayer
from memspan.state import State


class Associative(windows.Windowed):
    """A recent window, and an associative matrix of older tokens (ARMT, Rodkin et al. 2024, arXiv 2407.04841).

    A block that leaves the window is encoded in both directions, each chunk of `rate` tokens becomes a latent, and the
    latents are written to a matrix for each key head by the gated delta rule. Every query reads the matrix of its head, in
    every layer, and what it finds is added to what it attends to. The state never grows, however long the stream is.
    Before training the read adds nothing: the model is one with a window.

    Deviations from the paper: the latents are made from the keys and values of each layer by itself, rather than from
    memory tokens that run through the network, so that the model's own weights stay as they are; the matrix is read by the
    model's own queries, as in Infini-attention (Munkhdalai et al. 2024, arXiv 2404.07143), and has a decay; keys are
    normalised after a SiLU rather than expanded by DPFP, and there is no normaliser.

    Args:
        rate: number of tokens of a chunk.
        sinks: number of first tokens that also stay as they are.
        window: largest number of recent tokens kept as they are, a multiple of `block`; None keeps everything.
        block: L, number of tokens that leave together, a multiple of `rate`.
        code: width of the encoder of a block.
        latent: size of a latent.
        keys: Z; the matrix of a head has Z K numbers.
        decay: bias of the matrix's decay before the sigmoid: at 5 the matrix decays slowly.
    """

    # Each parameter is a setting that users write: a size of the memory or of its network, or how long it keeps.
    def __init__(
        self,
        rate: int = 8,
        sinks: int = 4,
        window: int | None = 1024,
        block: int = 128,
        code: int = 64,
        latent: int = 128,
        keys: int = 64,
        decay: float = 5.0,
    ) -> None:
        if rate < 1 or block < 1 or block % rate or (window is not None and (window < block or window % block)):
            raise UsageError(
                "block must be a multiple of rate, and window a multiple of block, "
                f"got rate={rate}, window={window}, block={block}."
            )
        if min(code, latent, keys) < 1 or not 0 <= sinks <= block:
            raise UsageError(
                "code, latent and keys must be at least 1, and sinks 0 to block, "
                f"got code={code}, latent={latent}, keys={keys}, sinks={sinks}, block={block}."
            )
        super().__init__(sinks, window, block)
        self.rate, self.sizes, self.decay = rate, (code, latent, keys), decay
        self.memory: _Matrix | None = None  # made once the size of the keys is known

    def make_weights(self, heads: int, size: int) -> None:
        if self.memory is None or self.memory.shape != (heads, size):
            self.memory = _Matrix(heads, size, self.rate, self.sizes, self.decay)

    def split_lengths(self, length: int, state: State = None, valid: Tensor | None = None) -> list[int]:
        return windows.split_lengths(self.rule._replace(sinks=0), length, state, valid)  # sinks are written, too

    def recall(
        self, q: Tensor, k: Tensor, v: Tensor, state: State = None, valid: Tensor | None = None
    ) -> tuple[Recalled, State]:
        if self.memory is None:
            raise UsageError("The mechanism must be attached to a model, or `make_weights` called, before it reads.")
        update, after = windows.store(self.rule, k, v, state, valid)
        if state is None:
            after["left"], after["matrix"] = torch.zeros(len(k), dtype=torch.int64), self.memory.initial(k)
            return update.recalled(after), after
        leaving = _leaving_once(self.rule, update, state["index"], state["left"], k.device)
        matrix: Tensor = state["matrix"]
        if leaving.columns is not None:
            kinds = [windows.take(state[kind], leaving.columns) for kind in ("k", "v")]
            matrix = self.memory.write(torch.stack(kinds, 1), self.block, leaving.blocks, matrix)
        after["left"], after["matrix"] = leaving.left.clone(), matrix
        recalled = update.recalled(after)
        return (recalled._replace(added=self.memory.read(q, matrix)) if leaving.any_left else recalled), after


class _Leaving(NamedTuple):
    """What leaves the window with a segment.

    Attributes:
        columns: (R, M) columns of the state's tokens that leave, block by block, in rows with fewer of them filled up with
            others; None: nothing leaves.
        blocks: (R, M / L) bool, which of the blocks leave.
        left: (B,) number of tokens of each row that have left the window by now. On the CPU.
        any_left: whether a token of any row has left by now.
    """

    columns: Tensor | None
    blocks: Tensor
    left: Tensor
    any_left: bool


def _leaving(
    rule: windows.WindowRule, update: windows.WindowUpdate, index: Tensor, left: Tensor, device: torch.device
) -> _Leaving:
    """What leaves a state with tokens `index` (B, N), of which `left` (B,) have left before, by the update of its window."""
    index, left = index.cpu(), left.cpu()
    with torch.inference_mode(False):  # what is computed while generating may be used in training
        first, _ = windows.window_start(update.seen, *rule)
        done = torch.maximum(left[:, None], first)  # (B, 1)
        leaves = (index >= left[:, None]) & (index < done)
        any_left = bool((done > 0).any())
        if not bool(leaves.any()):
            return _Leaving(None, leaves[:, :0], done.flatten().expand(len(left)), any_left)
        if bool((leaves == leaves[:1]).all()):
            leaves = leaves[:1]
        columns = windows.first_columns(leaves)
        blocks = leaves.gather(1, columns)[:, :: rule.block]
        return _Leaving(columns.to(device), blocks.to(device), done.flatten().expand(len(left)), any_left)


# Tensors are compared by identity: layers whose states share their counts compute it only once.
_leaving_once = lru_cache(maxsize=32)(_leaving)


class _Matrix(nn.Module):
    """The associative matrix of every key head, (B, H, Z, K): its encoder, its write and its read.

    What is written is divided by the root mean square of each head over a chunk; the read learns the size that it needs.
    """

    def __init__(self, heads: int, size: int, rate: int, sizes: tuple[int, int, int], decay: float) -> None:
        super().__init__()
        code, latent, keys = sizes
        self.shape, self.rate, self.keys = (heads, size), rate, keys
        self.code = nn.Linear(2 * heads * size, code, bias=False)
        self.encoder = TransformerLayer(code, max(1, code // 16), 2 * code)
        self.pool = nn.Linear(rate * code, latent)
        self.key = nn.Linear(latent, heads * keys, bias=False)
        self.value = nn.Linear(latent, heads * size, bias=False)
        self.rates = nn.Linear(latent, 2 * heads)
        self.query = nn.Parameter(torch.randn(heads, size, keys) * size**-0.5)
        self.out = nn.Parameter(torch.zeros(heads, size, size))
        with torch.no_grad():
            self.rates.weight.mul_(0.1)
            self.rates.bias.copy_(torch.tensor([decay] * heads + [0.0] * heads))

    def initial(self, k: Tensor) -> Tensor:
        """The empty matrix for keys (B, H, N, K)."""
        heads, size = self.shape
        return k.new_zeros(len(k), heads, self.keys, size, dtype=at_least_single(k.dtype))

    def write(self, kinds: Tensor, block: int, blocks: Tensor, matrix: Tensor) -> Tensor:
        """Keys and values (B, 2, H, M, K) of blocks of L tokens, of which those in `blocks` (R, M / L) are written."""
        rows, heads, size = len(kinds), *self.shape
        tokens = kinds.to(self.code.weight.dtype).permute(0, 3, 1, 2, 4)  # (B, M, 2, H, K)
        chunks = tokens.reshape(rows, -1, self.rate, 2, heads, size)  # (B, G, rate, 2, H, K)
        scale = (chunks.square().mean((2, 5), keepdim=True) + 1e-12).sqrt()
        chunks = chunks / scale
        codes = self.code(chunks.flatten(3)).to(
            tokens.dtype
        )  # autocast would leave them in half precision, which no norm here takes
        codes = self.encoder(codes.reshape(-1, block, self.code.out_features))
        latents = self.pool(codes.reshape(rows, -1, self.pool.in_features))  # (B, G, latent)
        key = self.key(latents).unflatten(2, (heads, -1)).transpose(1, 2)
        value = chunks[:, :, :, 1].mean(2) + self.value(latents).unflatten(2, (heads, size))
        decay, rate = self.rates(latents).unflatten(2, (2, heads)).permute(2, 0, 3, 1)
        written = blocks.repeat_interleave(block // self.rate, 1)[:, None]  # (R, 1, G)
        key = normalize(silu(key), dim=-1)
        return gated_delta_rule(
            key,
            key,
            value.transpose(1, 2),
            logsigmoid(decay) * written,
            rate.sigmoid() * written,
            matrix,
            latents.shape[1],
        )[1]

    def read(self, q: Tensor, matrix: Tensor) -> Tensor:
        """What the queries (B, Hq, S, K) find: (B, Hq, S, K)."""
        rows, count, length, size = q.shape
        by_head = q.reshape(rows, self.shape[0], -1, size)  # the query heads of a key head are so many queries of it
        keys = normalize(silu(by_head.to(self.query.dtype) @ self.query), dim=-1)
        with exact_products(q):
            found = exact(keys) @ matrix @ exact(self.out)
        return found.reshape(rows, count, length, size).to(q.dtype)
