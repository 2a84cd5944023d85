"""The mapping of Clerk's user fields to the columns of the app's table."""
