"""A recommender that is fitted at once: a decaying memory of the items a user had, read by linear maps in closed form.

Letters: B rows, T tokens, N items, D decays, E numbers of a text's vector, W items kept of a row, C components.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from memspan.models.next_item import Events, following, memories, validation
from memspan.models.saved import SavedModel
from memspan.state import State

DECAYS = (0.5, 0.85)  # on MovieLens as good as three or five, by the end of the training period
STRENGTHS = (30.0, 100.0, 300.0)  # of the ridge regression, one of which is chosen
KEPT = 256  # items that an item leads to, those with the largest numbers
RECENT = (0.1, 0.5)  # shares of the training events, counted back from the last, in which a count of events halves
MOST_ITEMS = 20_000  # N x N numbers are computed

Report = Callable[[str, int, int], None]  # what is computed, how much of it is done, and all of it


@dataclass(frozen=True)
class RecommenderConfig:
    """What a recommender is made of.

    Attributes:
        tokenizer_size: number of ids of the task's tokenizer; the items are the ids behind them.
        items: N.
        text_size: E; 0 where there are no texts.
        decays: D factors by which an event counts less with each later one; 0 remembers the last item alone.
    """

    tokenizer_size: int
    items: int
    text_size: int = 0
    decays: Sequence[float] = field(default_factory=lambda: list(DECAYS))

    @property
    def vocabulary(self) -> int:
        """The number of ids, those of the items included."""
        return self.tokenizer_size + self.items


class Recommender(SavedModel):
    """`(ids, state, logits_to_keep) -> (logits, state)`; the logits of ids that are no items are -inf.

    The state is the memory, float32 (B, D, N): with each item it decays, m = d m + e(item), for every decay d. Three kinds of
    scores are made of it and added with weights: ridge regressions of the next item on each m (SLIST, Choi et al. 2021,
    arXiv 2103.16104), the cosine of the texts of m with those of an item, and how many had an item lately.

    Deviations from the paper: one regression on all that came before an event, in several decays, instead of one on both
    sides of it beside one on what precedes; and the weights are learned.
    """

    kind, config_class = "recommender", RecommenderConfig

    def __init__(self, config: RecommenderConfig) -> None:
        super().__init__(config)
        self.position = nn.Parameter(torch.zeros(()), requires_grad=False)  # where the ids have to be
        self.maps: list[Tensor] = []  # (N, N) of each decay, sparse, from an item to those that follow it
        self.texts: Tensor | None = None  # (N, E), of length one
        self.popularity = torch.zeros(len(RECENT), 0)  # logarithms (len(RECENT), N)
        self.weights = torch.zeros(0)  # (C,)

    # ---- fitting

    def fit(self, events: Events, texts: Tensor | None = None, report: Report | None = None) -> dict[str, float]:
        """Learn from histories what follows what.

        The strength of the regression and the weights are chosen by what the newest fifth of the events shows of maps that
        are fitted on the others; then all are fitted anew on all events.

        Args:
            texts: float32 (N, E), the vector of each item's text, of length one.

        Returns the strength, and the share of likelihood that validation gave: the mean logarithm.
        """
        self.texts = texts
        known, questions = validation(events)
        strength, likelihood = STRENGTHS[1], float("nan")
        self.weights = torch.tensor([*(1.0 for _ in self.config.decays), 0.3, 0.3, 0.3])
        if texts is None:
            self.weights = self.weights[:-1]
        if questions.targets.numel():
            self.popularity = known.popularity(RECENT, self.config.items)
            trials = self._fitted_maps(known, STRENGTHS, report, "choosing")
            chosen = []
            memory = memories(questions.histories, self.config.decays, self.config.items, questions.weights)
            seen = memory[:, -1] > 0
            for maps in trials:
                self.maps = maps
                components = self.components(memory).masked_fill(seen[:, None], -1e4)
                chosen.append(_best_weights(components, questions.targets))
            best = max(range(len(STRENGTHS)), key=lambda index: chosen[index][1])
            strength, (self.weights, likelihood) = STRENGTHS[best], chosen[best]
        self.popularity = events.popularity(RECENT, self.config.items)
        (self.maps,) = self._fitted_maps(events, (strength,), report, "fitting")
        return {"strength": strength, "validation log-likelihood": likelihood}

    def _fitted_maps(
        self, events: Events, strengths: Sequence[float], report: Report | None, noun: str
    ) -> list[list[Tensor]]:
        """The maps of each strength, one for each decay."""
        maps: list[list[Tensor]] = [[] for _ in strengths]
        for number, decay in enumerate(self.config.decays):
            gram, products = following(events, decay, self.config.items)
            for index, strength in enumerate(strengths):
                factor = torch.linalg.cholesky(gram + strength * torch.eye(len(gram)))
                maps[index].append(_largest(torch.cholesky_solve(products, factor)))
                if report is not None:
                    done = number * len(strengths) + index + 1
                    report(noun, done, len(strengths) * len(self.config.decays))
        return maps

    # ---- scores

    def scores(self, memory: Tensor) -> Tensor:
        """The score of each item, float32 (B, N), for memories (B, D, N)."""
        return torch.einsum("bcn,c->bn", self.components(memory), self.weights)

    def components(self, memory: Tensor) -> Tensor:
        """Standard scores of all items by each component, (B, C, N), for memories (B, D, N)."""
        unit = nn.functional.normalize(memory, dim=2)
        scores = [torch.sparse.mm(map_.T, unit[:, index].T).T for index, map_ in enumerate(self.maps)]
        if self.texts is not None:
            read = nn.functional.normalize(unit[:, len(self.maps) // 2] @ self.texts, dim=1)
            scores.append(read @ self.texts.T)
        popularity = [row.expand(len(memory), -1) for row in self.popularity]
        return _standard(torch.stack([*scores, *popularity], 1))

    def forward(self, ids: Tensor, state: State = None, logits_to_keep: int | None = None) -> tuple[Tensor, State]:
        """ids (B, T) int64 -> logits (B, logits_to_keep, V) of the last tokens, and the memory after all of them."""
        keep = ids.shape[1] if logits_to_keep is None else logits_to_keep
        items = (ids - self.config.tokenizer_size).cpu()
        memory = torch.zeros(len(ids), len(self.config.decays), self.config.items) if state is None else state.cpu()
        memory = self._after(memory, items[:, : items.shape[1] - keep])
        logits = []
        for column in range(items.shape[1] - keep, items.shape[1]):
            memory = self._after(memory, items[:, column : column + 1])
            scores = self.scores(memory)
            others = scores.new_full((len(ids), self.config.tokenizer_size), -torch.inf)
            logits.append(torch.cat([others, scores], 1))
        stacked = torch.stack(logits, 1) if logits else torch.zeros(len(ids), 0, self.config.vocabulary)
        return stacked.to(ids.device), memory.to(ids.device)

    def _after(self, memory: Tensor, items: Tensor) -> Tensor:
        """The memory (B, D, N) after items (B, T), of which negative numbers are no items."""
        if not items.shape[1]:
            return memory
        valid = items >= 0
        later = valid.flip(1).cumsum(1).flip(1)[:, None] - 1  # items of the row behind each
        decays = torch.tensor(list(self.config.decays))[None, :, None]
        added = torch.where(valid[:, None], decays ** later.clamp_min(0), torch.zeros(()))
        indices = items.clamp_min(0)[:, None].expand(-1, len(self.config.decays), -1)
        decayed = memory * decays ** valid.sum(1)[:, None, None]
        return decayed.scatter_add(2, indices, added)

    # ---- on disk

    def learned(self) -> dict[str, Tensor]:
        tensors = {"popularity": self.popularity, "weights": self.weights}
        for index, map_ in enumerate(self.maps):
            sparse = map_.coalesce()
            tensors |= {f"map.{index}.indices": sparse.indices().int(), f"map.{index}.values": sparse.values().half()}
        return tensors if self.texts is None else {**tensors, "texts": self.texts.half()}

    def save_weights(self, path: Path) -> None:
        save_file({name: tensor.contiguous() for name, tensor in self.learned().items()}, path)

    def load_weights(self, path: Path) -> None:
        tensors = load_file(path)
        items, size = self.config.items, self.config.text_size
        try:
            self.popularity, self.weights = tensors["popularity"].float(), tensors["weights"].float()
            self.texts = tensors["texts"].float() if size else None
            self.maps = [
                _checked_map(tensors[f"map.{index}.indices"], tensors[f"map.{index}.values"], items)
                for index in range(len(self.config.decays))
            ]
        except (KeyError, RuntimeError) as error:
            raise RuntimeError(f"the weights are of another recommender: {error}") from error
        components = len(self.maps) + (self.texts is not None) + len(RECENT)
        fits = self.popularity.shape == (len(RECENT), items) and self.weights.shape == (components,)
        if not fits or (self.texts is not None and self.texts.shape != (items, size)):
            raise RuntimeError("the weights are of another recommender")


def _standard(scores: Tensor) -> Tensor:
    """Scores (..., N) less their mean, by their standard deviation; zeros where all are equal."""
    centred = scores - scores.mean(-1, keepdim=True)
    return centred / centred.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-9)


def _largest(map_: Tensor) -> Tensor:
    """A map (N, N), sparse: of each row the `KEPT` numbers that are farthest from zero."""
    count = min(KEPT, map_.shape[1])
    columns = map_.abs().topk(count, 1).indices
    rows = torch.arange(len(map_))[:, None].expand(-1, count)
    values = map_.gather(1, columns).half().float()  # as they are saved
    return _sparse(torch.stack([rows.flatten(), columns.flatten()]), values.flatten(), len(map_))


def _checked_map(indices: Tensor, values: Tensor, items: int) -> Tensor:
    if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < items:
        raise RuntimeError("a map leads to an item that there is not")
    return _sparse(indices.long(), values.float(), items)


def _sparse(indices: Tensor, values: Tensor, items: int) -> Tensor:
    return torch.sparse_coo_tensor(indices, values, (items, items), check_invariants=False).coalesce()


def _best_weights(components: Tensor, targets: Tensor) -> tuple[Tensor, float]:
    """Weights (C,), none negative, of components (B, C, N) that make targets (B,) likely, and the mean log-likelihood."""
    raw = torch.zeros(components.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([raw], lr=0.5, max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = torch.einsum("bcn,c->bn", components, nn.functional.softplus(raw))
        value = nn.functional.cross_entropy(logits, targets) + 1e-3 * raw.square().mean()
        value.backward()  # type: ignore[no-untyped-call]
        return value.detach()

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return nn.functional.softplus(raw).detach(), -float(loss())
