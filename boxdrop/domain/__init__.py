"""The domain: plain data and its rules, independent of buckets, servers and the command line."""
