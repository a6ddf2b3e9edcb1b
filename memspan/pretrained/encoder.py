"""A pretrained encoder with a classification head, also for texts longer than the encoder was trained on.

Letters: B batch, S tokens, T tokens so far, V vocabulary.
"""

import torch
from torch import Tensor

from memspan.pretrained.adapt import Pretrained
from memspan.state import State


class PretrainedEncoder(Pretrained):
    """An encoder such as BERT (Devlin et al. 2019) and a head: `(ids, state, logits_to_keep) -> (logits, state)`.

    The head reads the mean of a text's hidden states, which represents the text better than the first hidden state while
    the base is frozen (Reimers and Gurevych 2019). A long text is cut into windows as long as those the encoder was
    trained on, and the logits of its windows are averaged. Because an encoder sees later tokens, the state is the text
    itself, (B, T) int64; it is encoded, as a whole, only where logits are needed.
    """

    kind, auto = "pretrained_encoder", "AutoModel"

    def forward(self, ids: Tensor, state: State = None, logits_to_keep: int | None = None) -> tuple[Tensor, State]:
        """ids (B, S) int64 -> logits (B, logits_to_keep, V), the same at each of these tokens, and the text so far."""
        logits_to_keep = ids.shape[1] if logits_to_keep is None else logits_to_keep
        text = ids if state is None else torch.cat([state, ids], 1)
        if not logits_to_keep:
            return torch.zeros(len(ids), 0, self.config.vocabulary, device=ids.device), text
        windows, valid, counts = self.windows([row[self.text_start(row) :] for row in text])
        hidden = self.body(input_ids=windows, attention_mask=valid.long()).last_hidden_state
        mean_hidden = (hidden * valid[..., None]).sum(1, keepdim=True) / valid.sum(1)[:, None, None]
        by_text = torch.split(self.head_logits(mean_hidden), counts)
        logits = torch.cat([window_logits.mean(0, keepdim=True) for window_logits in by_text])
        return logits.expand(-1, logits_to_keep, -1), text
