"""A pretrained encoder that tells labels apart, also of texts longer than it was trained on.

Letters: B batch, S tokens, T tokens so far, V vocabulary.
"""

import torch
from torch import Tensor

from memspan.pretrained.adapt import Pretrained
from memspan.state import State


class PretrainedEncoder(Pretrained):
    """An encoder such as BERT (Devlin et al. 2019) and a head: `(ids, state, logits_to_keep) -> (logits, state)`.

    The head reads the mean of a text's hidden states, which says more of it than the first one's where nothing of the
    base is learned (Reimers and Gurevych 2019). A long text is cut into windows as long as the encoder was trained on,
    and the mean of what the head says to each is what is said to the text. An encoder sees later tokens, so the state is the text itself: (B, T) int64. Only where
    something is asked is it encoded, whole; the same is said at each of the tokens kept.
    """

    kind, auto = "pretrained_encoder", "AutoModel"

    def forward(self, ids: Tensor, state: State = None, logits_to_keep: int | None = None) -> tuple[Tensor, State]:
        """ids (B, S) int64 -> logits (B, S, V), or (B, keep, V) those of the last `logits_to_keep` tokens, and the text so far."""
        logits_to_keep = ids.shape[1] if logits_to_keep is None else logits_to_keep
        text = ids if state is None else torch.cat([state, ids], 1)
        if not logits_to_keep:
            return torch.zeros(len(ids), 0, self.config.vocabulary, device=ids.device), text
        filled, there, counts = self.windows([one[self.begin(one) :] for one in text])
        hidden = self.body(input_ids=filled, attention_mask=there.long()).last_hidden_state
        whole = (hidden * there[..., None]).sum(1, keepdim=True) / there.sum(1)[:, None, None]
        each = torch.split(self.said(whole), counts)
        mean = torch.cat([one.mean(0, keepdim=True) for one in each])
        return mean.expand(-1, logits_to_keep, -1), text
