"""Clerk's data and protocol: users, events, webhook signatures, session tokens, and the API client."""
