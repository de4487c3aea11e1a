"""The system on one machine: real services, started and stopped by `boxdrop local`."""
