"""One job on several devices: one process per device, all of which make the numbers of one process with the whole batch."""
