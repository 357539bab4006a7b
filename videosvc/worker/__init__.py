"""What turns a job of the queue into a clip: one worker a device, one job at a time."""
