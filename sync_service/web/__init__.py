"""HTTP: routes, middleware, error responses and metrics."""
