"""A pretrained encoder-decoder: what comes before the ids that ask for an answer is its source, what follows its target.

Letters: B batch, S tokens, T tokens so far, N tokens of the source, L of the target, D width, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from memspan.pretrained.adapt import Pretrained
from memspan.state import State


class PretrainedSeq2Seq(Pretrained):
    """An encoder-decoder such as T5 (Raffel et al. 2020): `(ids, state, logits_to_keep) -> (logits, state)`.

    The state is {"ids": all that was read, (B, T); "begin": where each row's target begins, (B,); "source" and "valid":
    the encoded sources, (B, N, D) and (B, N)}. The last three are None until every row has been asked for an answer;
    from then on the source is not encoded again. Sources longer than `reach` are encoded window by window, and the
    decoder sees all of them (Fusion-in-Decoder, Izacard and Grave 2021). Before a target begins all logits are 0, so that
    nothing is learned there.
    """

    kind, auto = "pretrained_seq2seq", "AutoModelForSeq2SeqLM"
    is_generative = False

    def forward(self, ids: Tensor, state: State = None, logits_to_keep: int | None = None) -> tuple[Tensor, State]:
        """ids (B, S) int64 -> logits (B, S, V), or (B, keep, V) those of the last `logits_to_keep` tokens, and the state after them."""
        logits_to_keep = ids.shape[1] if logits_to_keep is None else logits_to_keep
        text = ids if state is None else torch.cat([state["ids"], ids], 1)
        known: dict[str, Any] = {"begin": None, "source": None, "valid": None} if state is None else state
        if not logits_to_keep:
            return torch.zeros(len(ids), 0, self.config.vocabulary, device=ids.device), {**known, "ids": text}
        begin, source, valid = known["begin"], known["source"], known["valid"]
        if begin is None:
            begin = self._begins(text)
            source, valid = self._encode(text, begin)
            if bool((begin <= text.shape[1]).all()):
                known = {"begin": begin, "source": source, "valid": valid}
        return self._decode(text, begin, source, valid, logits_to_keep), {**known, "ids": text}

    def _begins(self, text: Tensor) -> Tensor:
        """Where each row's target begins: behind the last ids that ask for an answer; T + 1 if nothing does yet. (B,)"""
        marker = text.new_tensor(self.config.answer)
        found = (text.unfold(1, len(marker), 1) == marker).all(2) if text.shape[1] >= len(marker) else text[:, :0] > 0
        last = found.shape[1] - 1 - found.flip(1).byte().argmax(1) if found.shape[1] else text.new_zeros(len(text))
        return torch.where(found.any(1), last + len(marker), text.shape[1] + 1)

    def _encode(self, text: Tensor, begin: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's outputs (B, N, D), and which of them are of the source, (B, N) bool."""
        asked = torch.where(begin <= text.shape[1], begin - len(self.config.answer), text.shape[1]).tolist()
        texts = [ids[min(self.begin(ids), end) : end] for ids, end in zip(text, asked, strict=True)]
        filled, there, counts = self.windows(texts)
        hidden = self.body.get_encoder()(input_ids=filled, attention_mask=there.long()).last_hidden_state
        pairs = zip(torch.split(hidden, counts), torch.split(there, counts), strict=True)
        sources = [windows[seen] for windows, seen in pairs]
        valid = [torch.ones(len(one), dtype=torch.bool, device=text.device) for one in sources]
        return pad_sequence(sources, batch_first=True), pad_sequence(valid, batch_first=True)

    def _decode(self, text: Tensor, begin: Tensor, source: Tensor, valid: Tensor, logits_to_keep: int) -> Tensor:
        """Logits (B, keep, V) at the last tokens of `text`: those from the last id that asks on say the target."""
        from transformers.modeling_outputs import BaseModelOutput

        length = text.shape[1]
        begin = begin.clamp_max(length)
        targets = [ids[start:] for ids, start in zip(text, begin.tolist(), strict=True)]
        first = text.new_full((len(text), 1), self.body.config.decoder_start_token_id)
        target = torch.cat([first, pad_sequence(targets, batch_first=True, padding_value=self.config.pad)], 1)
        output: Any = self.body(
            encoder_outputs=BaseModelOutput(last_hidden_state=source),
            attention_mask=valid.long(),
            decoder_input_ids=target,
            output_hidden_states=self.head is not None,
            use_cache=False,
        )
        logits = (
            output.logits[..., : self.config.words]
            if self.head is None
            else self.said(output.decoder_hidden_states[-1])
        )
        # The decoder's inputs begin together, the streams end together.
        places = torch.arange(length - logits_to_keep, length, device=text.device)[None] - (begin[:, None] - 1)
        told = logits.gather(1, places.clamp_min(0)[..., None].expand(-1, -1, logits.shape[2]))
        return told.where(places[..., None] >= 0, 0.0)
