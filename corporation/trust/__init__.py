"""What one machine may do to another: users of the broker, signed missions, and a log of every privileged act."""
