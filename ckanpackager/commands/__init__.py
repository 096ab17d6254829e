"""What the command line can do, one module for each subject. Only ``console`` writes to the terminal."""
