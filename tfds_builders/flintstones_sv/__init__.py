"""FlintstonesSV: stories of five clips of a cartoon series with their captions and settings, in the splits of its papers."""
