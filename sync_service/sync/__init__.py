"""Applies changes from every source: webhooks, logins, retries and replays."""
