"""Memories over the wire: a library of them for several owners, and the server with its routes."""
