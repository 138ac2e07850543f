//! Every syscall, ioctl and netlink socket; the only unsafe.

pub mod channel;
