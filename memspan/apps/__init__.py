"""Programs for one purpose each, made of everything to the left of this room; `memspan.cli` puts them on the command line."""
