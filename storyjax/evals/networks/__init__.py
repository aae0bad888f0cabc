"""The networks that look at pictures: where their weights come from, and how pictures are brought to them."""
