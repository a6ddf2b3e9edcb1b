"""Models with a state: `scratch`, `classifier` and `seq2seq` are trained from scratch with any mechanisms.

All follow `protocol`; `saved` writes and opens them as folders, `ensemble` combines them, `generate` continues texts.
"""
