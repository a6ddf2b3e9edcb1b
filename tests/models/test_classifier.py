"""The classifier: a long text in segments is the whole one, padding is not pooled, and it can tell texts apart."""

from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from memspan.errors import UsageError
from memspan.models.classifier import Classifier, ClassifierConfig, Pool
from memspan.models.folders import write_checksums
from memspan.models.saved import open_model
from memspan.state import tensors


def make(**changes: object) -> Classifier:
    torch.manual_seed(0)
    fields = {"vocabulary": 12, "classes": 3, "width": 16, "layers": [[{"name": "delta"}]], **changes}
    return Classifier(ClassifierConfig(**fields)).eval()


IDS = torch.randint(1, 12, (3, 20), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("pooling", ["weighted", "mean"])
def test_segments_are_the_whole_text(pooling: str) -> None:
    model = make(pooling=pooling)
    whole, after = model(IDS, None, 1)
    state = model.init_hidden()
    for segment in IDS.split([7, 1, 12], 1):
        logits, state = model(segment, state, 1)
    assert whole.shape == (3, 1, 3)
    torch.testing.assert_close(logits, whole, rtol=1e-4, atol=1e-5)
    for chunked, at_once in zip(tensors(state), tensors(after), strict=True):
        torch.testing.assert_close(chunked, at_once, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(model(IDS[:, 8:], None, 1)[0], whole, atol=1e-3)


def test_the_logits_are_the_same_at_every_token_that_is_kept() -> None:
    model = make()
    last, after = model(IDS, None, 1)
    for count, logits_to_keep in ((20, None), (5, 5), (0, 0)):
        logits, state = model(IDS, None, logits_to_keep)
        assert torch.equal(logits, last.expand(-1, count, -1))
        assert all(map(torch.equal, tensors(state), tensors(after)))


@pytest.mark.parametrize("learned", [True, False])
def test_the_pool_is_a_weighted_mean_of_what_is_valid(learned: bool) -> None:
    torch.manual_seed(0)
    pool, x = Pool(5, learned), torch.randn(2, 6, 5)
    valid = torch.tensor([[True, False, True, True, False, False], [False] * 6])
    pooled, state = pool(x[:, :4], valid[:, :4])
    pooled, _ = pool(x[:, 4:], valid[:, 4:], state)
    scores = pool.score(x)[..., 0] if pool.score is not None else torch.zeros(2, 6)
    weights = scores[0].masked_fill(~valid[0], -torch.inf).softmax(0)
    torch.testing.assert_close(pooled[0], weights @ x[0])
    assert torch.equal(pooled[1], torch.zeros(5))


def test_padding_is_not_pooled() -> None:
    model = make(padding=0)  # padding comes last, and its mechanism looks only back
    padded = torch.cat([IDS, torch.zeros(3, 9, dtype=torch.int64)], 1)
    torch.testing.assert_close(model(padded, None, 1)[0], model(IDS, None, 1)[0], rtol=1e-4, atol=1e-5)
    counted = make()
    assert not torch.allclose(counted(padded, None, 1)[0], counted(IDS, None, 1)[0], atol=1e-3)


def test_it_may_see_what_comes_later() -> None:
    model = make(layers=[[{"name": "bidirectional"}]])
    assert model(IDS)[0].isfinite().all()


def test_it_learns_by_heart() -> None:
    model, classes = make().train(), torch.tensor([2, 0, 1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        cross_entropy(model(IDS, None, 1)[0][:, 0], classes).backward()
        optimizer.step()
    assert torch.equal(model(IDS, None, 1)[0][:, 0].argmax(1), classes)


def test_saving_changes_nothing(tmp_path: Path) -> None:
    model = make()
    model.save_pretrained(tmp_path)
    assert torch.equal(Classifier.from_pretrained(tmp_path).eval()(IDS)[0], model(IDS)[0])
    assert isinstance(open_model(tmp_path), Classifier)


def test_folders_of_an_older_name_are_opened(tmp_path: Path) -> None:
    model = make()
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text("utf-8").replace('"classifier"', '"encoder"'), "utf-8")
    write_checksums(tmp_path)
    for opened in (open_model(tmp_path), Classifier.from_pretrained(tmp_path)):
        assert torch.equal(opened.eval()(IDS)[0], model(IDS)[0])


def test_what_cannot_be() -> None:
    with pytest.raises(UsageError, match="pooling must be mean or weighted, got 'max'"):
        make(pooling="max")
    with pytest.raises(UsageError, match="classes must be at least 2, got 1"):
        make(classes=1)
