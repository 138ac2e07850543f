//! The container's file tree: overlay, mounts, devices, masks.
