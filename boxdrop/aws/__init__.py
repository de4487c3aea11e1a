"""AWS services, each behind a thin client."""
