"""A procedural world of five-frame cartoon stories whose truth is known: who, where, in which weather, doing what."""
