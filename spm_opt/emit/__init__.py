"""Schedules as text."""
