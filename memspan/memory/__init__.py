"""Memories: the object, and its files on disk."""

from memspan.memory.filter import Filter
from memspan.memory.memory import Memory, load_memory
from memspan.memory.store.encoded_text import EncodedText
from memspan.memory.store.manifest import FORMAT_VERSION, EncoderFingerprint, Fingerprint, LatentsFingerprint
from memspan.memory.store.passage_latents import PassageLatents
from memspan.memory.store.shard import SourceRecord
from memspan.memory.store.snapshot import Block, Passage
from memspan.memory.view import Contents, View

__all__ = [
    "FORMAT_VERSION",
    "Block",
    "Contents",
    "EncodedText",
    "EncoderFingerprint",
    "Filter",
    "Fingerprint",
    "LatentsFingerprint",
    "Memory",
    "Passage",
    "PassageLatents",
    "SourceRecord",
    "View",
    "load_memory",
]
