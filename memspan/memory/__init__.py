"""What is kept: the Memory, and its files on disk."""

from memspan.memory.contents import Block, Passage
from memspan.memory.folder import FORMAT_VERSION, Fingerprint
from memspan.memory.memory import Memory, load_memory
from memspan.memory.part import Piece, Source

__all__ = ["FORMAT_VERSION", "Block", "Fingerprint", "Memory", "Passage", "Piece", "Source", "load_memory"]
