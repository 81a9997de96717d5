"""One job on several devices: a process a device, all of which make the numbers of one process with the whole batch."""
