"""Layers every network here is made of."""
