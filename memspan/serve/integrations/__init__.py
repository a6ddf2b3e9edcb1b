"""Memories as the parts that other frameworks know: each file is about one of them, and needs its extra."""
