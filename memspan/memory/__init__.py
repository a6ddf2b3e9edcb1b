"""What is kept: the Memory, and its files on disk."""

from memspan.memory.memory import Memory, load_memory
from memspan.memory.store.folder import FORMAT_VERSION, Fingerprint
from memspan.memory.store.shard import Piece, Source
from memspan.memory.store.snapshot import Block, Passage

__all__ = ["FORMAT_VERSION", "Block", "Fingerprint", "Memory", "Passage", "Piece", "Source", "load_memory"]
