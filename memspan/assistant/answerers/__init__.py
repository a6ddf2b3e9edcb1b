"""Answerers: what writes an answer, given the messages of a prompt."""
