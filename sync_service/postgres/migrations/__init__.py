"""Numbered SQL files, forward only. Once released, a file is never edited: its checksum is on record."""
