"""Multi-head attention over whatever a KV mechanism recalls.

Letters: B batch, H heads, S queries, N keys, K head size, D model width.
"""

import torch
from torch import Tensor, nn

from memspan.errors import UsageError
from memspan.mechanisms.base import KVMechanism, Mechanism, Recalled
from memspan.mechanisms.layers.attention import add_sinusoids, attend, attention_weights, rotary, sinusoids
from memspan.state import State


class Everything(KVMechanism):
    """Full attention: nothing is forgotten, and the state grows with the stream."""

    def recall(
        self, q: Tensor, k: Tensor, v: Tensor, state: State = None, valid: Tensor | None = None
    ) -> tuple[Recalled, State]:
        before, length = 0, k.shape[2]
        if state is not None:
            before = state["k"].shape[2]
            k, v = torch.cat([state["k"], k], 2), torch.cat([state["v"], v], 2)
        positions = torch.arange(before + length, device=k.device)[None]
        return Recalled(k, v, None, positions, positions[:, before:]), {"k": k, "v": v}


class Attention(Mechanism):
    """Multi-head attention (Vaswani et al. 2017) over whatever a KV mechanism recalls.

    Args:
        width: D.
        heads: Hq = H; K = D / heads.
        over: what is remembered; None is everything.
        positions: "rotary" (Su et al. 2021), "sinusoidal" (Vaswani et al. 2017; added to queries and keys in every layer
            rather than to the embedding, because a remembered key is placed anew at each use), "relative"
            (Transformer-XL, Dai et al. 2019), or "none".
        dropout: of the attention weights while training.
    """

    def __init__(
        self,
        width: int,
        heads: int = 4,
        over: KVMechanism | None = None,
        positions: str = "rotary",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if width % heads or (width // heads) % 2:
            raise UsageError(f"A width of {width} cannot be shared by {heads} heads of an even size.")
        if positions not in ("rotary", "sinusoidal", "relative", "none"):
            raise UsageError(f"There are no positions '{positions}'. Known: none, relative, rotary, sinusoidal.")
        self.over = Everything() if over is None else over
        self.heads, self.size, self.positions, self.dropout = heads, width // heads, positions, dropout
        self.project = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        if positions == "relative":  # equation (2) of Transformer-XL: W_kR, u and v
            self.distance = nn.Linear(width, width, bias=False)
            self.content_bias = nn.Parameter(torch.zeros(heads, 1, self.size))
            self.position_bias = nn.Parameter(torch.zeros(heads, 1, self.size))

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        return self._read(x, state, watched=None)

    def forward_with_internals(self, x: Tensor, state: State = None) -> tuple[Tensor, State, dict[str, Tensor]]:
        """Also "scores" and "weights", (B, S, H, N): a key that a query did not see has weight 0, score -inf.

        N are the keys that the last query was offered; keys stand in the order of the stream. Where nothing was read
        before, "places" (B, S, N) says which token each key is, -1 being none; of pooled keys it is the middle one.
        """
        watched: list[tuple[Tensor, Tensor]] = []
        fresh = state is None
        y, state = self._read(x, state, watched)
        most = max(scores.shape[3] for scores, _ in watched)
        scores, weights = (
            torch.cat(
                [nn.functional.pad(part[kind], (most - part[kind].shape[3], 0), value=empty) for part in watched], 2
            )
            for kind, empty in ((0, -torch.inf), (1, 0.0))
        )
        seen = {"scores": scores.transpose(1, 2), "weights": weights.transpose(1, 2)}
        if fresh:
            seen["places"] = self._places(x, most)
        return y, state, seen

    def _places(self, x: Tensor, most: int) -> Tensor:
        """(B, S, most): values go wherever their keys do, so places sent in their stead come back beside the keys."""
        q, k, v = self.project(x).unflatten(2, (3, self.heads, self.size)).permute(2, 0, 3, 1, 4)
        sent = torch.arange(x.shape[1], dtype=v.dtype, device=x.device)[None, None, :, None].expand_as(v)
        found: list[Tensor] = []
        state, start = None, 0
        for length in self.over.split_lengths(x.shape[1], state):
            piece = slice(start, start + length)
            recalled, state = self.over.recall(q[:, :, piece], k[:, :, piece], sent[:, :, piece], state)
            places = recalled.v[:, :1, :, 0].round().long().expand(-1, length, -1)
            found.append(nn.functional.pad(places, (most - places.shape[2], 0), value=-1))
            start += length
        return torch.cat(found, 1)

    def _read(self, x: Tensor, state: State, watched: list[tuple[Tensor, Tensor]] | None) -> tuple[Tensor, State]:
        q, k, v = self.project(x).unflatten(2, (3, self.heads, self.size)).permute(2, 0, 3, 1, 4)
        outputs, start = [], 0
        for length in self.over.split_lengths(x.shape[1], state):
            piece = slice(start, start + length)
            recalled, state = self.over.recall(q[:, :, piece], k[:, :, piece], v[:, :, piece], state)
            query, bias = q[:, :, piece], None
            rotate = {"rotary": rotary, "sinusoidal": add_sinusoids}.get(self.positions)
            if self.positions == "relative":
                bias = self._position_scores(query, recalled)
                query = query + self.content_bias
            outputs.append(attend(query, recalled, rotate, dropout=self.dropout if self.training else 0.0, bias=bias))
            if watched is not None:
                watched.append(attention_weights(query, recalled, rotate, bias))
            start += length
        return self.out(torch.cat(outputs, 2).transpose(1, 2).flatten(2)), state

    def _position_scores(self, q: Tensor, recalled: Recalled) -> Tensor:
        """(q + v) . W_kR R_{i-j}, scaled: (B, H, S, N)."""
        distances = (recalled.query_positions[:, :, None] - recalled.key_positions[:, None]).clamp_min(0)  # (B, S, N)
        steps = torch.arange(int(distances.max()) + 1, device=q.device)
        table = self.distance(sinusoids(steps, self.heads * self.size).to(q.dtype)).unflatten(
            1, (self.heads, self.size)
        )
        scores: Tensor = torch.einsum("bhsk,mhk->bhsm", q + self.position_bias, table) * self.size**-0.5
        return scores.gather(3, distances[:, None].expand(q.shape[0], self.heads, -1, -1))
