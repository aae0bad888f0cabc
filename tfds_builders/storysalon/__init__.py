"""StorySalon: picture books and read-aloud videos as stories of any length, with captions, story text and masks."""
