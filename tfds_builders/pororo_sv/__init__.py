"""PororoSV: stories of five clips of a cartoon series with their captions, in the splits that papers report on."""
