"""One job on several devices, with one process (rank) per device. All ranks compute the same numbers as one process on whole batches."""
