"""The PPDL/1 format: header, shards and what may be read of a folder. See docs/format.md."""
