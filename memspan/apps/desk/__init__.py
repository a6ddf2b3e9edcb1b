"""The desk for long documents: summaries, translations and briefs for decisions, each sentence with where it stands.

A text of any length is read segment by segment. What was found in a segment is kept in a folder as soon as it is known, so
that a run that was ended goes on where it stopped.
"""
