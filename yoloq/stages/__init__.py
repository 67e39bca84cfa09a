"""The stages: a folder each, `make X` is `stages/x`."""
