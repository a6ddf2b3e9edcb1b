"""The store of a memory: shards, snapshots, and the folder in which they are kept."""
