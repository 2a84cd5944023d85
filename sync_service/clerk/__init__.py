"""What Clerk says: values and how to read them, and the signature that proves them (pure)."""
