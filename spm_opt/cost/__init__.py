"""The price of one event: a tile, a transfer."""
