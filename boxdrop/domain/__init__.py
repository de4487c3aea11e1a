"""The domain: plain data and its rules. It knows no bucket, no server and no command line."""
