"""Checks of settings, database and users table; each finding contains the statements or commands that correct it."""
