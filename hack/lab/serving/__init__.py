"""The parts of a real server of the lab."""
