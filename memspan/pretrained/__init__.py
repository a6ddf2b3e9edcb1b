"""Pretrained transformers models: a memory attached to their attention, their weights, and their adaptation to tasks.

`attach.attached` gives a causal LM a memory; `hooks`, `cache` and `rotary` are how, `families` and `support` are for whom,
`self_test` is the check. `hub` loads models, `heads` and `decoding` run them, in `threads`. `adapt` builds a trainable model,
which is one of `causal`, `encoder` and `seq2seq`.
"""
