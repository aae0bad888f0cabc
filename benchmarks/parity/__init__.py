"""Every network that storyjax reads, held against the library it comes from, at its released size."""
