"""The operators' interface: its JSON API, its sessions, and the limits on both."""
