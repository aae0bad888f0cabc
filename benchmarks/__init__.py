"""Measurements, made side by side in one run; never tests."""
