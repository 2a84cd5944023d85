"""Metrics in Prometheus' text format. They are totals only: no person, secret or setting can be derived from them."""
