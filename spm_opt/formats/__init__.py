"""Files: only here does anyone open one or know how a key is spelled."""
