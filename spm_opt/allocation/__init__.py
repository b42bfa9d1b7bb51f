"""Rectangles to offsets; knows no DNN."""
