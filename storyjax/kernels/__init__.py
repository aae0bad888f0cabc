"""Operations that a compiler does not make fast by itself: one folder each, one entry, several backends, one test suite."""
