"""Label Studio: projects, tasks and images. Knows Label Studio only; no ledger, no detector."""
