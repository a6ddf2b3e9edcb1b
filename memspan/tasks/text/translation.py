"""A sentence in one language, said in another."""

import random
from collections.abc import Sequence
from typing import Any

from memspan.data.datasets import Record, divide_groups
from memspan.tasks import metrics
from memspan.tasks.text.base import Example, TextTask

PART = 256  # sentences whose neighbours are looked for at once

WHO = (("the old fisherman", "老渔夫"), ("my little sister", "我妹妹"), ("our new teacher", "我们的新老师"),
       ("the tired doctor", "疲倦的医生"), ("a young painter", "一位年轻画家"), ("his grandmother", "他奶奶"))  # fmt: skip
WHEN = (("every morning", "每天早上"), ("at the weekend", "周末"), ("after the rain", "雨后"), ("in winter", "冬天"),
        ("late at night", "深夜"), ("before lunch", "午饭前"))  # fmt: skip
WHERE = (("at the market", "在市场"), ("near the station", "在车站附近"), ("by the river", "在河边"),
         ("in a small shop", "在一家小店里"), ("behind the school", "在学校后面"), ("on the island", "在岛上"))  # fmt: skip
DOES = (("buys", "买"), ("sells", "卖"), ("looks for", "找"), ("gives away", "送"), ("finds", "找到"), ("draws", "画"))
COUNT = (("two", "两"), ("three", "三"), ("four", "四"), ("seven", "七"), ("ten", "十"))
COLOUR = (("red", "红"), ("white", "白"), ("black", "黑"), ("green", "绿"), ("yellow", "黄"))
THING = (("flowers", "朵{}花"), ("books", "本{}书"), ("horses", "匹{}马"), ("hats", "顶{}帽子"), ("boats", "艘{}船"),
         ("umbrellas", "把{}雨伞"))  # fmt: skip


class Translation(TextTask):
    """Columns: source, target. The other way round: rename={source: target, target: source}.

    Sentences with the same source are held out together. The baseline says the translation of the sentence trained on
    that is most similar, by TF-IDF of words and pairs of them.
    """

    columns, metric = ("source", "target"), "chrF"

    def split(
        self, records: Sequence[Record], share: float, limit: int | None
    ) -> tuple[Sequence[Record], Sequence[Record]]:
        train, rest = divide_groups([str(record["source"]) for record in records], share)
        return [records[place] for place in train[:limit]], [records[place] for place in rest[:limit]]

    def example(self, record: Record) -> Example:
        return Example(str(record["source"]), str(record["target"]))

    def compute_metrics(self, records: Sequence[Record], said: Sequence[str]) -> dict[str, float]:
        scores = metrics.translation([str(record["target"]) for record in records], said)
        return {name: scores[name] for name in ("chrF", "BLEU")}

    def baselines(self, limit: int | None = None) -> dict[str, float]:
        from sklearn.feature_extraction.text import TfidfVectorizer

        rest = self._rest[:limit]
        vectors = TfidfVectorizer(tokenizer=metrics.words, token_pattern=None, ngram_range=(1, 2), sublinear_tf=True)
        known = vectors.fit_transform([str(record["source"]) for record in self.records])
        asked = vectors.transform([str(record["source"]) for record in rest])
        said = []
        for first in range(0, len(rest), PART):
            nearest = (asked[first : first + PART] @ known.T).toarray().argmax(1)
            said += [str(self.records[place]["target"]) for place in nearest]
        return {"most similar sentence": self.compute_metrics(rest, said)[self.metric]}

    @staticmethod
    def sample(count: int) -> list[dict[str, Any]]:
        """English sentences and Chinese ones, whose words stand in another order."""
        draw = random.Random(0)
        return [_sentence(draw) for _ in range(count)]


def _sentence(draw: random.Random) -> dict[str, Any]:
    drawn = [draw.choice(words) for words in (WHO, WHEN, WHERE, DOES, COUNT, COLOUR, THING)]
    english, chinese = zip(*drawn, strict=True)
    thing = chinese[6].format(chinese[5])  # the colour stands between the measure word and the noun
    return {
        "source": "{0} {3} {4} {5} {6} {2} {1}.".format(*english).capitalize(),
        "target": "{0}{1}{2}{3}{4}{thing}。".format(*chinese, thing=thing),
    }
