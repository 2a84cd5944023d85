"""What stands between an owner's database and Clerk: findings, each with what to run."""
