//! Every syscall, ioctl and netlink socket; the only unsafe.
