"""The operators' page: HTML from templates, forms, no build step, and only a few lines of JavaScript."""
