"""CLEVR-SV: four objects appear one after the other; the released files, or stories of the same kind drawn here."""
