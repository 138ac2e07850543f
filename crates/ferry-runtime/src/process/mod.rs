//! What happens to a process after its root is in place: streams, user, limits, privileges, command.
