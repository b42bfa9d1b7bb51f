"""The joint model: the only room that mentions OR-tools."""
