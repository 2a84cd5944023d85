"""What of Clerk's user goes into which column of the app's table."""
