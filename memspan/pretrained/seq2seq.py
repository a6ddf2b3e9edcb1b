"""A pretrained encoder-decoder: the ids before the answer marker are its source, the ids after it the target.

Letters: B batch, S tokens, T tokens so far, N tokens of the source, D width, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from memspan.pretrained.adapt import Pretrained
from memspan.state import State


class PretrainedSeq2Seq(Pretrained):
    """An encoder-decoder such as T5 (Raffel et al. 2020): `(ids, state, logits_to_keep) -> (logits, state)`.

    The state is {"ids": everything read, (B, T); "begin": index at which each row's target begins, (B,); "source" and
    "valid": the encoded sources, (B, N, D) and (B, N)}. The last three are None until every row has had its answer marker;
    from then on the source is not encoded again. Sources longer than one window are encoded window by window, and the
    decoder attends to all of them (Fusion-in-Decoder, Izacard and Grave 2021). Before a target begins all logits are 0, so
    that nothing is learned there.
    """

    kind, auto = "pretrained_seq2seq", "AutoModelForSeq2SeqLM"
    is_generative = False

    def forward(self, ids: Tensor, state: State = None, logits_to_keep: int | None = None) -> tuple[Tensor, State]:
        """ids (B, S) int64 -> logits (B, logits_to_keep, V) of the last tokens, and the state after all of them."""
        logits_to_keep = ids.shape[1] if logits_to_keep is None else logits_to_keep
        text = ids if state is None else torch.cat([state["ids"], ids], 1)
        encoded: dict[str, Any] = {"begin": None, "source": None, "valid": None} if state is None else state
        if not logits_to_keep:
            return torch.zeros(len(ids), 0, self.config.vocabulary, device=ids.device), {**encoded, "ids": text}
        begin, source, valid = encoded["begin"], encoded["source"], encoded["valid"]
        if begin is None:
            begin = self._target_begin(text)
            source, valid = self._encode(text, begin)
            if bool((begin <= text.shape[1]).all()):
                encoded = {"begin": begin, "source": source, "valid": valid}
        return self._decode(text, begin, source, valid, logits_to_keep), {**encoded, "ids": text}

    def _target_begin(self, text: Tensor) -> Tensor:
        """The index after the last answer marker of each row of `text` (B, T), (B,); T + 1 without a marker."""
        marker = text.new_tensor(self.config.answer)
        matches = (text.unfold(1, len(marker), 1) == marker).all(2) if text.shape[1] >= len(marker) else text[:, :0] > 0
        last = (
            matches.shape[1] - 1 - matches.flip(1).byte().argmax(1) if matches.shape[1] else text.new_zeros(len(text))
        )
        return torch.where(matches.any(1), last + len(marker), text.shape[1] + 1)

    def _encode(self, text: Tensor, begin: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's outputs (B, N, D), and which of them are of the source, (B, N) bool."""
        ends = torch.where(begin <= text.shape[1], begin - len(self.config.answer), text.shape[1]).tolist()
        texts = [row[min(self.text_start(row), end) : end] for row, end in zip(text, ends, strict=True)]
        windows, in_window, counts = self.windows(texts)
        hidden = self.body.get_encoder()(input_ids=windows, attention_mask=in_window.long()).last_hidden_state
        by_text = zip(torch.split(hidden, counts), torch.split(in_window, counts), strict=True)
        sources = [text_hidden[text_valid] for text_hidden, text_valid in by_text]
        valid = [torch.ones(len(source), dtype=torch.bool, device=text.device) for source in sources]
        return pad_sequence(sources, batch_first=True), pad_sequence(valid, batch_first=True)

    def _decode(self, text: Tensor, begin: Tensor, source: Tensor, valid: Tensor, logits_to_keep: int) -> Tensor:
        """Logits (B, logits_to_keep, V) at the last tokens of `text`; the last id of the marker predicts the first of the
        target."""
        from transformers.modeling_outputs import BaseModelOutput

        length = text.shape[1]
        begin = begin.clamp_max(length)
        targets = [row[start:] for row, start in zip(text, begin.tolist(), strict=True)]
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
            output.logits[..., : self.config.tokenizer_size]
            if self.head is None
            else self.head_logits(output.decoder_hidden_states[-1])
        )
        # The decoder's inputs are aligned at their beginning, the rows of `text` at their end.
        columns = torch.arange(length - logits_to_keep, length, device=text.device)[None] - (begin[:, None] - 1)
        aligned = logits.gather(1, columns.clamp_min(0)[..., None].expand(-1, -1, logits.shape[2]))
        return aligned.where(columns[..., None] >= 0, 0.0)
