"""HTTP: routes, their answers, and what is told about them."""
