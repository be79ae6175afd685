"""What only the operating system can tell, behind narrow Protocols."""
