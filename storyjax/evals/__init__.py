"""Scores: metrics, the recogniser they rest on, and the evaluator that puts them into one table."""
